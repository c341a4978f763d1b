#compdef client

autoload -U is-at-least

_client() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--addr=[Server to fetch from if no ADDR is given; the default port is 8443]:HOST:PORT:_default' \
'--server-name=[Name to verify in the server'\''s certificate \[default\: the host of --addr; localhost for a loopback address\]]:NAME:_default' \
'--cert=[Certificates to trust (PEM). A CA certificate covers all certificates that it signed, any other one only itself \[default\: cert.pem if it exists, else the system'\''s roots\]]:PATH:_files' \
'(--cert --no-tls)*--pin=[Trust the server that has this key, which it prints when it starts, whatever its certificate. Repeatable; implies --tls]:sha256:HEX:_default' \
'(--no-tls)--identity=[This client'\''s private key and certificate (PEM), for servers with --clients; created if missing; implies --tls]:FILE:_files' \
'--out=[Folder for the images; created if missing]:DIR:_files' \
'--output=[Folder for the images; created if missing]:DIR:_files' \
'--sort=[With --list\: order by name, by size (largest first) or by type \[default\: the server'\''s order\]]:KEY:(name size type)' \
'*--include=[Fetch only images whose names match, such as '\''*.jpg'\''; repeatable. Of all --include and --exclude, the last match decides]:GLOB:_default' \
'*--exclude=[Skip images whose names match; repeatable. A name without a match is fetched, unless the first pattern is an --include]:GLOB:_default' \
'*--type=[Only images of these types, separated by commas]:TYPE:(png jpeg webp bmp gif other)' \
'*--get=[Only the image with this ID, 16 hexadecimal digits as printed by --list; repeatable]:ID:_default' \
'--max-delete=[With --mirror\: delete nothing if more than this number or percentage of the folder'\''s images would be deleted. An empty catalog requires 100%]:N|P%:_default' \
'(--list --check)--backup-dir=[Move replaced and deleted files to this folder; inside --out it must be hidden]:DIR:_files' \
'--repeat=[Number of times to run the whole job]:N:_default' \
'-p+[Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB]:N:_default' \
'--parallel=[Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB]:N:_default' \
'--connect-timeout=[Timeout for connecting to one address]:SEC:_default' \
'--timeout=[Longest wait for the next byte of a response]:SEC:_default' \
'--retries=[Retries in a row without progress. The pauses before them double up to 30 s\: 3 wait 2 s in all, 8 a minute, 20 seven minutes]:N:_default' \
'--max-image-size=[Reject images larger than this after decompression \[default and maximum\: 4GiB less one byte\]]:SIZE:_default' \
'--limit-rate=[Receive at most this much per second on average, on all connections together; at least 16KiB \[default\: no limit\]]:SIZE:_default' \
'--max-total-size=[End the job when its images exceed this size in total; stored images are kept; exit code 3 \[default\: none\]]:SIZE:_default' \
'--max-time=[End the job after this time; stored images are kept; exit code 3 \[default\: none\]]:SEC:_default' \
'--tls[Connect with TLS, also to addresses without jtps\://]' \
'--secure[Connect with TLS, also to addresses without jtps\://]' \
'--no-tls[Connect with plain TCP (the default; the last of --tls and --no-tls wins)]' \
'--plain[Connect with plain TCP (the default; the last of --tls and --no-tls wins)]' \
'--show-identity[Print the line of --identity for the server'\''s --clients file, and exit]' \
'--batch[Fetch only images that are not in the folder yet]' \
'--delta[Fetch only images that are not in the folder yet]' \
'--checksum[With --batch or --check\: hash every file in the folder again instead of trusting its index]' \
'-w[Fetch, then keep running and fetch each new image until Ctrl-C]' \
'--watch[Fetch, then keep running and fetch each new image until Ctrl-C]' \
'(--batch -w --watch)--list[Print ID, size, type and name of each image on the server; fetch nothing]' \
'(--list -w --watch)-n[Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay]' \
'(--list -w --watch)--dry-run[Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay]' \
'(--batch --list -w --watch -n --dry-run)--check[Compare the folder with the server and print the differences; change nothing; exit code 3 if there are any]' \
'--long[With --list\: human-readable sizes; size, type, ID and name in columns]' \
'--flat[Store all images in the output folder itself\: do not create or scan sub-folders]' \
'(--list --check --get --keep-existing)--mirror[Make the folder match the server\: rename files, and delete images that the server does not list; implies --batch]' \
'(--list --check)--keep-existing[Do not replace files\: an image whose name is in use gets its ID as a suffix]' \
'-k[Reuse a connection for many requests]' \
'--keep-alive[Reuse a connection for many requests]' \
'--pipeline[Send requests before earlier ones are answered; only for servers known to implement S1 and C2 of RFC.md]' \
'--no-tcp-nodelay[Do not set TCP_NODELAY\: small writes may be delayed and merged]' \
'(--long --show-identity)--json[Print a JSON object on a line of stdout for each event, and for each image of --list]' \
'(-v --verbose)-q[Print errors only]' \
'(-v --verbose)--quiet[Print errors only]' \
'*-v[Log more; -vv for even more (RUST_LOG also works)]' \
'*--verbose[Log more; -vv for even more (RUST_LOG also works)]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
'*::servers -- Server to fetch from\: HOST or HOST\:PORT, with jtps\:// for TLS. Several are replicas of one catalog\: when one fails, the next one goes on:_default' \
&& ret=0
}

(( $+functions[_client_commands] )) ||
_client_commands() {
    local commands; commands=()
    _describe -t commands 'client commands' commands "$@"
}

if [ "$funcstack[1]" = "_client" ]; then
    _client "$@"
else
    compdef _client client
fi
