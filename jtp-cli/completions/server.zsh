#compdef server

autoload -U is-at-least

_server() {
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
'--images=[Folder of images to share, or the URL of images in an object store\: s3\://BUCKET/PREFIX, gs\://BUCKET/PREFIX, az\://CONTAINER/PREFIX or file\:///FOLDER]:DIR|URL:_files' \
'--images-dir=[Folder of images to share, or the URL of images in an object store\: s3\://BUCKET/PREFIX, gs\://BUCKET/PREFIX, az\://CONTAINER/PREFIX or file\:///FOLDER]:DIR|URL:_files' \
'--only=[Share only files whose name (with --recursive\: path below the folder) contains this text, ignoring case]:SUBSTRING:_default' \
'--name-contains=[Share only files whose name (with --recursive\: path below the folder) contains this text, ignoring case]:SUBSTRING:_default' \
'*--include=[Share only files whose path below the folder matches, such as '\''*.jpg'\''; repeatable. Of all --include and --exclude, the last match decides]:GLOB:_default' \
'*--exclude=[Skip files whose path below the folder matches; repeatable. A file without a match is shared, unless the first pattern is an --include]:GLOB:_default' \
'--compression-threshold=[Compress an image if that reduces it below this fraction of its size; 0 disables compression]:R:_default' \
'--compress-threshold=[Compress an image if that reduces it below this fraction of its size; 0 disables compression]:R:_default' \
'--watch-interval=[Rescan the folder at this interval instead of using file system events; list an object store at this interval]:SEC:_default' \
'--cache-dir=[Folder for the ID index and compressed images; no other user may write to it \[default\: CACHE_DIRECTORY as set by systemd, or jtp in the user'\''s cache folder\]]:DIR:_files' \
'--cache-size=[Maximum size of the compressed images there; the least recently used are evicted. 0 keeps them in memory]:SIZE:_default' \
'--store-cache-size=[Keep copies of images from an object store in the cache folder, up to this size; the least recently used are evicted. Several servers can share the folder. 0 keeps none]:SIZE:_default' \
'--bind=[Address and port to listen on; port 0 picks a free port]:ADDR:_default' \
'*--proxy-protocol=[Proxies (addresses or networks, repeatable, or separated by commas)\: their connections must begin with a PROXY protocol header, version 2, which names the client. List only proxies\: others could choose their address]:ADDR[/PREFIX]:_default' \
'--metrics=[Serve metrics for Prometheus at http\://ADDR/metrics, and the health of the server at /healthz. Everyone who can connect can read them\: a loopback address such as 127.0.0.1\:9184 is a good choice]:ADDR:_default' \
'--cert=[Certificate (PEM); generated with its key at the first start if neither exists \[default\: cert.pem\]]:PATH:_files' \
'--key=[Private key of the certificate (PEM) \[default\: key.pem\]]:PATH:_files' \
'(--no-tls --allow-plain)--clients=[Admit only clients whose keys are in this file\: lines "sha256\:HEX name", # comments. Implies --require-tls]:FILE:_files' \
'--rate-limit=[Maximum requests, and TLS handshakes, per window from one client address (IPv6\: one /64 network); 0 means no limit]:N:_default' \
'--rate-limit-window=[Length of the rate limit window]:SEC:_default' \
'--keep-alive-timeout=[How long a connection may be idle between requests]:SEC:_default' \
'--max-connections=[Maximum concurrent connections]:N:_default' \
'--max-connections-per-ip=[Maximum concurrent connections from one client address (IPv6\: one /64 network); 0 means no limit \[default\: an eighth of --max-connections\]]:N:_default' \
'--max-watchers=[Maximum concurrent clients that watch. Above it, the one that has been idle longest is disconnected, of the address with the most. 0 means no limit \[default\: half of --max-connections\]]:N:_default' \
'--max-handshakes=[Maximum concurrent TLS handshakes; others wait, and client addresses take turns. 0 means no limit \[default\: 4 per processor\]]:N:_default' \
'--drain-timeout=[How long a shutdown waits for requests in progress]:SEC:_default' \
'--log-format=[Format of the log on stderr]:FORMAT:((text\:"One line of text for each event"
json\:"One JSON object on a line for each event"))' \
'-r[Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out]' \
'--recursive[Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out]' \
'--index-only[Bring the catalog of an object store up to date, and exit\: for a job that only indexes]' \
'--watch[Let clients watch for new images (the default)]' \
'--no-watch[Refuse to let clients watch for new images; the catalog still follows the folder]' \
'--checksum[Hash every file again instead of trusting the index]' \
'--no-sandbox[Do not confine the process to the images folder and the cache (Linux\: Landlock)]' \
'--no-tcp-nodelay[Do not set TCP_NODELAY\: small writes may be delayed and merged]' \
'(--require-tls)--no-tls[Serve plain TCP only, without TLS]' \
'(--require-tls)--plain[Serve plain TCP only, without TLS]' \
'(--allow-plain)--require-tls[Refuse plain TCP \[default\: plain TCP from this machine only\]]' \
'--allow-plain[Accept plain TCP from all clients, in addition to TLS]' \
'*-v[Log more; -vv for even more (RUST_LOG also works)]' \
'*--verbose[Log more; -vv for even more (RUST_LOG also works)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
&& ret=0
}

(( $+functions[_server_commands] )) ||
_server_commands() {
    local commands; commands=()
    _describe -t commands 'server commands' commands "$@"
}

if [ "$funcstack[1]" = "_server" ]; then
    _server "$@"
else
    compdef _server server
fi
