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
'--addr=[Server to fetch from; without a port, 8443]:HOST:PORT:_default' \
'--server-name=[Name that the server'\''s certificate must hold \[default\: the host; localhost for a loopback address\]]:NAME:_default' \
'--cert=[Certificates to trust (PEM) \[default\: cert.pem if there is one, else the system'\''s\]]:PATH:_files' \
'--out=[Folder for the images; made if missing]:DIR:_files' \
'--output=[Folder for the images; made if missing]:DIR:_files' \
'--repeat=[Do the whole job this many times]:N:_default' \
'-p+[Share the work among this many connections, 1 to 32]:N:_default' \
'--parallel=[Share the work among this many connections, 1 to 32]:N:_default' \
'--connect-timeout=[Longest time to connect to an address]:SEC:_default' \
'--timeout=[Longest time without a byte while the server owes one]:SEC:_default' \
'--retries=[How often to try again without getting anywhere, waiting longer each time]:N:_default' \
'--max-image-size=[Refuse images that are larger than this once they are decompressed \[default\: 4GiB less one byte\]]:SIZE:_default' \
'--tls[Speak TLS]' \
'--secure[Speak TLS]' \
'--no-tls[Speak plain TCP (this is the default; the last of --tls and --no-tls wins)]' \
'--plain[Speak plain TCP (this is the default; the last of --tls and --no-tls wins)]' \
'--batch[Fetch only what the folder lacks]' \
'--delta[Fetch only what the folder lacks]' \
'--checksum[With --batch\: read every file in the folder anew, whatever the index there says]' \
'-w[Fetch, then stay and fetch each new image, until Ctrl-C]' \
'--watch[Fetch, then stay and fetch each new image, until Ctrl-C]' \
'(--batch -w --watch)--list[Print ID, size, type and name of each image of the server, and fetch nothing]' \
'-k[Use a connection for many requests]' \
'--keep-alive[Use a connection for many requests]' \
'--pipeline[Send requests before earlier ones are answered; only for servers known to keep S1 and C2 of RFC.md]' \
'--no-tcp-nodelay[Send small packets late, to send fewer]' \
'(-v --verbose)-q[Print errors only]' \
'(-v --verbose)--quiet[Print errors only]' \
'*-v[Log what happens; -vv for more (RUST_LOG works too)]' \
'*--verbose[Log what happens; -vv for more (RUST_LOG works too)]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
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
