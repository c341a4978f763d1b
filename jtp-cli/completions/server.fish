complete -c server -l images -l images-dir -d 'Folder of images to share, or the URL of images in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER' -r -F
complete -c server -l only -l name-contains -d 'Share only files whose name (with --recursive: path below the folder) contains this text, ignoring case' -r
complete -c server -l include -d 'Share only files whose path below the folder matches, such as \'*.jpg\'; repeatable. Of all --include and --exclude, the last match decides' -r
complete -c server -l exclude -d 'Skip files whose path below the folder matches; repeatable. A file without a match is shared, unless the first pattern is an --include' -r
complete -c server -l compression-threshold -l compress-threshold -d 'Compress an image if that reduces it below this fraction of its size; 0 disables compression' -r
complete -c server -l watch-interval -d 'Rescan the folder at this interval instead of using file system events; list an object store at this interval' -r
complete -c server -l cache-dir -d 'Folder for the ID index and compressed images; no other user may write to it [default: CACHE_DIRECTORY as set by systemd, or jtp in the user\'s cache folder]' -r -F
complete -c server -l cache-size -d 'Maximum size of the compressed images there; the least recently used are evicted. 0 keeps them in memory' -r
complete -c server -l store-cache-size -d 'Keep copies of images from an object store in the cache folder, up to this size; the least recently used are evicted. Several servers can share the folder. 0 keeps none' -r
complete -c server -l bind -d 'Address and port to listen on; port 0 picks a free port' -r
complete -c server -l proxy-protocol -d 'Proxies (addresses or networks, repeatable, or separated by commas): their connections must begin with a PROXY protocol header, version 2, which names the client. List only proxies: others could choose their address' -r
complete -c server -l metrics -d 'Serve metrics for Prometheus at http://ADDR/metrics, and the health of the server at /healthz. Everyone who can connect can read them: a loopback address such as 127.0.0.1:9184 is a good choice' -r
complete -c server -l cert -d 'Certificate (PEM); generated with its key at the first start if neither exists [default: cert.pem]' -r -F
complete -c server -l key -d 'Private key of the certificate (PEM) [default: key.pem]' -r -F
complete -c server -l clients -d 'Admit only clients whose keys are in this file: lines "sha256:HEX name", # comments. Implies --require-tls' -r -F
complete -c server -l rate-limit -d 'Maximum requests, and TLS handshakes, per window from one client address (IPv6: one /64 network); 0 means no limit' -r
complete -c server -l rate-limit-window -d 'Length of the rate limit window' -r
complete -c server -l keep-alive-timeout -d 'How long a connection may be idle between requests' -r
complete -c server -l max-connections -d 'Maximum concurrent connections' -r
complete -c server -l max-connections-per-ip -d 'Maximum concurrent connections from one client address (IPv6: one /64 network); 0 means no limit [default: an eighth of --max-connections]' -r
complete -c server -l max-watchers -d 'Maximum concurrent clients that watch. Above it, the one that has been idle longest is disconnected, of the address with the most. 0 means no limit [default: half of --max-connections]' -r
complete -c server -l max-handshakes -d 'Maximum concurrent TLS handshakes; others wait, and client addresses take turns. 0 means no limit [default: 4 per processor]' -r
complete -c server -l drain-timeout -d 'How long a shutdown waits for requests in progress' -r
complete -c server -l log-format -d 'Format of the log on stderr' -r -f -a "text\t'One line of text for each event'
json\t'One JSON object on a line for each event'"
complete -c server -s r -l recursive -d 'Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out'
complete -c server -l index-only -d 'Bring the catalog of an object store up to date, and exit: for a job that only indexes'
complete -c server -l watch -d 'Let clients watch for new images (the default)'
complete -c server -l no-watch -d 'Refuse to let clients watch for new images; the catalog still follows the folder'
complete -c server -l checksum -d 'Hash every file again instead of trusting the index'
complete -c server -l no-sandbox -d 'Do not confine the process to the images folder and the cache (Linux: Landlock)'
complete -c server -l no-tcp-nodelay -d 'Do not set TCP_NODELAY: small writes may be delayed and merged'
complete -c server -l no-tls -l plain -d 'Serve plain TCP only, without TLS'
complete -c server -l require-tls -d 'Refuse plain TCP [default: plain TCP from this machine only]'
complete -c server -l allow-plain -d 'Accept plain TCP from all clients, in addition to TLS'
complete -c server -s v -l verbose -d 'Log more; -vv for even more (RUST_LOG also works)'
complete -c server -s h -l help -d 'Print help (see more with \'--help\')'
complete -c server -s V -l version -d 'Print version'
