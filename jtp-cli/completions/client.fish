complete -c client -l addr -d 'Server to fetch from if no ADDR is given; the default port is 8443' -r
complete -c client -l server-name -d 'Name to verify in the server\'s certificate [default: the host of --addr; localhost for a loopback address]' -r
complete -c client -l cert -d 'Certificates to trust (PEM). A CA certificate covers all certificates that it signed, any other one only itself [default: cert.pem if it exists, else the system\'s roots]' -r -F
complete -c client -l pin -d 'Trust the server that has this key, which it prints when it starts, whatever its certificate. Repeatable; implies --tls' -r
complete -c client -l identity -d 'This client\'s private key and certificate (PEM), for servers with --clients; created if missing; implies --tls' -r -F
complete -c client -l out -l output -d 'Folder for the images; created if missing' -r -F
complete -c client -l sort -d 'With --list: order by name, by size (largest first) or by type [default: the server\'s order]' -r -f -a "name\t''
size\t''
type\t''"
complete -c client -l include -d 'Fetch only images whose names match, such as \'*.jpg\'; repeatable. Of all --include and --exclude, the last match decides' -r
complete -c client -l exclude -d 'Skip images whose names match; repeatable. A name without a match is fetched, unless the first pattern is an --include' -r
complete -c client -l type -d 'Only images of these types, separated by commas' -r -f -a "png\t''
jpeg\t''
webp\t''
bmp\t''
gif\t''
other\t''"
complete -c client -l get -d 'Only the image with this ID, 16 hexadecimal digits as printed by --list; repeatable' -r
complete -c client -l max-delete -d 'With --mirror: delete nothing if more than this number or percentage of the folder\'s images would be deleted. An empty catalog requires 100%' -r
complete -c client -l backup-dir -d 'Move replaced and deleted files to this folder; inside --out it must be hidden' -r -F
complete -c client -l repeat -d 'Number of times to run the whole job' -r
complete -c client -s p -l parallel -d 'Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB' -r
complete -c client -l connect-timeout -d 'Timeout for connecting to one address' -r
complete -c client -l timeout -d 'Longest wait for the next byte of a response' -r
complete -c client -l retries -d 'Retries in a row without progress. The pauses before them double up to 30 s: 3 wait 2 s in all, 8 a minute, 20 seven minutes' -r
complete -c client -l max-image-size -d 'Reject images larger than this after decompression [default and maximum: 4GiB less one byte]' -r
complete -c client -l limit-rate -d 'Receive at most this much per second on average, on all connections together; at least 16KiB [default: no limit]' -r
complete -c client -l max-total-size -d 'End the job when its images exceed this size in total; stored images are kept; exit code 3 [default: none]' -r
complete -c client -l max-time -d 'End the job after this time; stored images are kept; exit code 3 [default: none]' -r
complete -c client -l tls -l secure -d 'Connect with TLS, also to addresses without jtps://'
complete -c client -l no-tls -l plain -d 'Connect with plain TCP (the default; the last of --tls and --no-tls wins)'
complete -c client -l show-identity -d 'Print the line of --identity for the server\'s --clients file, and exit'
complete -c client -l batch -l delta -d 'Fetch only images that are not in the folder yet'
complete -c client -l checksum -d 'With --batch or --check: hash every file in the folder again instead of trusting its index'
complete -c client -s w -l watch -d 'Fetch, then keep running and fetch each new image until Ctrl-C'
complete -c client -l list -d 'Print ID, size, type and name of each image on the server; fetch nothing'
complete -c client -s n -l dry-run -d 'Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay'
complete -c client -l check -d 'Compare the folder with the server and print the differences; change nothing; exit code 3 if there are any'
complete -c client -l long -d 'With --list: human-readable sizes; size, type, ID and name in columns'
complete -c client -l flat -d 'Store all images in the output folder itself: do not create or scan sub-folders'
complete -c client -l mirror -d 'Make the folder match the server: rename files, and delete images that the server does not list; implies --batch'
complete -c client -l keep-existing -d 'Do not replace files: an image whose name is in use gets its ID as a suffix'
complete -c client -s k -l keep-alive -d 'Reuse a connection for many requests'
complete -c client -l pipeline -d 'Send requests before earlier ones are answered; only for servers known to implement S1 and C2 of RFC.md'
complete -c client -l no-tcp-nodelay -d 'Do not set TCP_NODELAY: small writes may be delayed and merged'
complete -c client -l json -d 'Print a JSON object on a line of stdout for each event, and for each image of --list'
complete -c client -s q -l quiet -d 'Print errors only'
complete -c client -s v -l verbose -d 'Log more; -vv for even more (RUST_LOG also works)'
complete -c client -s h -l help -d 'Print help'
complete -c client -s V -l version -d 'Print version'
