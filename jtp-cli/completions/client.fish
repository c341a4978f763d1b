complete -c client -l addr -d 'Server to fetch from; without a port, 8443' -r
complete -c client -l server-name -d 'Name that the server\'s certificate must hold [default: the host; localhost for a loopback address]' -r
complete -c client -l cert -d 'Certificates to trust (PEM) [default: cert.pem if there is one, else the system\'s]' -r -F
complete -c client -l out -l output -d 'Folder for the images; made if missing' -r -F
complete -c client -l repeat -d 'Do the whole job this many times' -r
complete -c client -s p -l parallel -d 'Share the work among this many connections, 1 to 32' -r
complete -c client -l connect-timeout -d 'Longest time to connect to an address' -r
complete -c client -l timeout -d 'Longest time without a byte while the server owes one' -r
complete -c client -l retries -d 'How often to try again without getting anywhere, waiting longer each time' -r
complete -c client -l max-image-size -d 'Refuse images that are larger than this once they are decompressed [default: 4GiB less one byte]' -r
complete -c client -l tls -l secure -d 'Speak TLS'
complete -c client -l no-tls -l plain -d 'Speak plain TCP (this is the default; the last of --tls and --no-tls wins)'
complete -c client -l batch -l delta -d 'Fetch only what the folder lacks'
complete -c client -l checksum -d 'With --batch: read every file in the folder anew, whatever the index there says'
complete -c client -s w -l watch -d 'Fetch, then stay and fetch each new image, until Ctrl-C'
complete -c client -l list -d 'Print ID, size, type and name of each image of the server, and fetch nothing'
complete -c client -s k -l keep-alive -d 'Use a connection for many requests'
complete -c client -l pipeline -d 'Send requests before earlier ones are answered; only for servers known to keep S1 and C2 of RFC.md'
complete -c client -l no-tcp-nodelay -d 'Send small packets late, to send fewer'
complete -c client -s q -l quiet -d 'Print errors only'
complete -c client -s v -l verbose -d 'Log what happens; -vv for more (RUST_LOG works too)'
complete -c client -s h -l help -d 'Print help'
complete -c client -s V -l version -d 'Print version'
