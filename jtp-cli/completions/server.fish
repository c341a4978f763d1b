complete -c server -l images -l images-dir -d 'Folder whose images are shared' -r -F
complete -c server -l only -l name-contains -d 'Share only files whose name contains this, in upper or lower case' -r
complete -c server -l compression-threshold -l compress-threshold -d 'Compress a BMP or other image if that brings it below this share of its size; 0 never compresses' -r
complete -c server -l watch-interval -d 'Look through the folder at this interval, rather than be told of changes by the system' -r
complete -c server -l cache-dir -d 'Folder for the index of IDs and for compressed images [default: jtp in the user\'s cache folder]' -r -F
complete -c server -l cache-size -d 'Room for compressed images there; those used least recently go first. 0 keeps them in memory' -r
complete -c server -l bind -d 'Address and port to listen on; port 0 picks a free one' -r
complete -c server -l cert -d 'Certificate (PEM); made with its key on the first start if neither is there [default: cert.pem]' -r -F
complete -c server -l key -d 'Private key of the certificate (PEM) [default: key.pem]' -r -F
complete -c server -l rate-limit -d 'Most requests of one client address (IPv6: of one /64 network) in a window; 0 sets no limit' -r
complete -c server -l rate-limit-window -d 'Length of that window' -r
complete -c server -l keep-alive-timeout -d 'How long a connection may be idle between requests' -r
complete -c server -l max-connections -d 'Most connections at a time' -r
complete -c server -l max-connections-per-ip -d 'Most connections at a time of one client address (IPv6: of one /64 network); 0 sets no limit' -r
complete -c server -l drain-timeout -d 'How long the end waits for what is under way' -r
complete -c server -l watch -d 'Let clients wait for new images (this is the default)'
complete -c server -l no-watch -d 'Refuse clients that want to wait for new images; the folder is followed all the same'
complete -c server -l checksum -d 'Read every file anew, whatever the index says'
complete -c server -l no-tcp-nodelay -d 'Send small packets late, to send fewer'
complete -c server -l no-tls -l plain -d 'Plain TCP alone, without TLS'
complete -c server -l require-tls -d 'Plain TCP for nobody [without this: for clients on this machine]'
complete -c server -l allow-plain -d 'Plain TCP for everybody beside TLS'
complete -c server -s v -l verbose -d 'Log more; -vv for even more (RUST_LOG works too)'
complete -c server -s h -l help -d 'Print help'
complete -c server -s V -l version -d 'Print version'
