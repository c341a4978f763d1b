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
'--images=[Folder whose images are shared]:DIR:_files' \
'--images-dir=[Folder whose images are shared]:DIR:_files' \
'--only=[Share only files whose name contains this, in upper or lower case]:SUBSTRING:_default' \
'--name-contains=[Share only files whose name contains this, in upper or lower case]:SUBSTRING:_default' \
'--compression-threshold=[Compress a BMP or other image if that brings it below this share of its size; 0 never compresses]:R:_default' \
'--compress-threshold=[Compress a BMP or other image if that brings it below this share of its size; 0 never compresses]:R:_default' \
'--watch-interval=[Look through the folder at this interval, rather than be told of changes by the system]:SEC:_default' \
'--cache-dir=[Folder for the index of IDs and for compressed images \[default\: jtp in the user'\''s cache folder\]]:DIR:_files' \
'--cache-size=[Room for compressed images there; those used least recently go first. 0 keeps them in memory]:SIZE:_default' \
'--bind=[Address and port to listen on; port 0 picks a free one]:ADDR:_default' \
'--cert=[Certificate (PEM); made with its key on the first start if neither is there \[default\: cert.pem\]]:PATH:_files' \
'--key=[Private key of the certificate (PEM) \[default\: key.pem\]]:PATH:_files' \
'--rate-limit=[Most requests of one client address (IPv6\: of one /64 network) in a window; 0 sets no limit]:N:_default' \
'--rate-limit-window=[Length of that window]:SEC:_default' \
'--keep-alive-timeout=[How long a connection may be idle between requests]:SEC:_default' \
'--max-connections=[Most connections at a time]:N:_default' \
'--max-connections-per-ip=[Most connections at a time of one client address (IPv6\: of one /64 network); 0 sets no limit]:N:_default' \
'--drain-timeout=[How long the end waits for what is under way]:SEC:_default' \
'--watch[Let clients wait for new images (this is the default)]' \
'--no-watch[Refuse clients that want to wait for new images; the folder is followed all the same]' \
'--checksum[Read every file anew, whatever the index says]' \
'--no-tcp-nodelay[Send small packets late, to send fewer]' \
'(--require-tls)--no-tls[Plain TCP alone, without TLS]' \
'(--require-tls)--plain[Plain TCP alone, without TLS]' \
'(--allow-plain)--require-tls[Plain TCP for nobody \[without this\: for clients on this machine\]]' \
'--allow-plain[Plain TCP for everybody beside TLS]' \
'*-v[Log more; -vv for even more (RUST_LOG works too)]' \
'*--verbose[Log more; -vv for even more (RUST_LOG works too)]' \
'-h[Print help]' \
'--help[Print help]' \
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
