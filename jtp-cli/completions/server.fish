complete -c server -l images -l images-dir -d 'Folder of images to share' -r -F
complete -c server -l only -l name-contains -d 'Share only files whose name contains this text, ignoring case' -r
complete -c server -l compression-threshold -l compress-threshold -d 'Compress an image if that reduces it below this fraction of its size; 0 disables compression' -r
complete -c server -l watch-interval -d 'Rescan the folder at this interval instead of using file system events' -r
complete -c server -l cache-dir -d 'Folder for the ID index and compressed images [default: jtp in the user\'s cache folder]' -r -F
complete -c server -l cache-size -d 'Maximum size of the compressed images there; the least recently used are evicted. 0 keeps them in memory' -r
complete -c server -l bind -d 'Address and port to listen on; port 0 picks a free port' -r
complete -c server -l cert -d 'Certificate (PEM); generated with its key at the first start if neither exists [default: cert.pem]' -r -F
complete -c server -l key -d 'Private key of the certificate (PEM) [default: key.pem]' -r -F
complete -c server -l rate-limit -d 'Maximum requests per window from one client address (IPv6: one /64 network); 0 means no limit' -r
complete -c server -l rate-limit-window -d 'Length of the rate limit window' -r
complete -c server -l keep-alive-timeout -d 'How long a connection may be idle between requests' -r
complete -c server -l max-connections -d 'Maximum concurrent connections' -r
complete -c server -l max-connections-per-ip -d 'Maximum concurrent connections from one client address (IPv6: one /64 network); 0 means no limit [default: an eighth of --max-connections]' -r
complete -c server -l drain-timeout -d 'How long a shutdown waits for requests in progress' -r
complete -c server -l watch -d 'Let clients watch for new images (the default)'
complete -c server -l no-watch -d 'Refuse to let clients watch for new images; the catalog still follows the folder'
complete -c server -l checksum -d 'Hash every file again instead of trusting the index'
complete -c server -l no-tcp-nodelay -d 'Do not set TCP_NODELAY: small writes may be delayed and merged'
complete -c server -l no-tls -l plain -d 'Serve plain TCP only, without TLS'
complete -c server -l require-tls -d 'Refuse plain TCP [default: accept it from this machine only]'
complete -c server -l allow-plain -d 'Accept plain TCP from all clients, in addition to TLS'
complete -c server -s v -l verbose -d 'Log more; -vv for even more (RUST_LOG also works)'
complete -c server -s h -l help -d 'Print help'
complete -c server -s V -l version -d 'Print version'
