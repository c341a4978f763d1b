
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'client' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'client'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'client' {
            [CompletionResult]::new('--addr', '--addr', [CompletionResultType]::ParameterName, 'Server to fetch from if no ADDR is given; the default port is 8443')
            [CompletionResult]::new('--server-name', '--server-name', [CompletionResultType]::ParameterName, 'Name to verify in the server''s certificate [default: the host of --addr; localhost for a loopback address]')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'Certificates to trust (PEM). A CA certificate covers all certificates that it signed, any other one only itself [default: cert.pem if it exists, else the system''s roots]')
            [CompletionResult]::new('--pin', '--pin', [CompletionResultType]::ParameterName, 'Trust the server that has this key, which it prints when it starts, whatever its certificate. Repeatable; implies --tls')
            [CompletionResult]::new('--identity', '--identity', [CompletionResultType]::ParameterName, 'This client''s private key and certificate (PEM), for servers with --clients; created if missing; implies --tls')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'Folder for the images; created if missing')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Folder for the images; created if missing')
            [CompletionResult]::new('--sort', '--sort', [CompletionResultType]::ParameterName, 'With --list: order by name, by size (largest first) or by type [default: the server''s order]')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Fetch only images whose names match, such as ''*.jpg''; repeatable. Of all --include and --exclude, the last match decides')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip images whose names match; repeatable. A name without a match is fetched, unless the first pattern is an --include')
            [CompletionResult]::new('--type', '--type', [CompletionResultType]::ParameterName, 'Only images of these types, separated by commas')
            [CompletionResult]::new('--get', '--get', [CompletionResultType]::ParameterName, 'Only the image with this ID, 16 hexadecimal digits as printed by --list; repeatable')
            [CompletionResult]::new('--max-delete', '--max-delete', [CompletionResultType]::ParameterName, 'With --mirror: delete nothing if more than this number or percentage of the folder''s images would be deleted. An empty catalog requires 100%')
            [CompletionResult]::new('--backup-dir', '--backup-dir', [CompletionResultType]::ParameterName, 'Move replaced and deleted files to this folder; inside --out it must be hidden')
            [CompletionResult]::new('--repeat', '--repeat', [CompletionResultType]::ParameterName, 'Number of times to run the whole job')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB')
            [CompletionResult]::new('--parallel', '--parallel', [CompletionResultType]::ParameterName, 'Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Timeout for connecting to one address')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest wait for the next byte of a response')
            [CompletionResult]::new('--retries', '--retries', [CompletionResultType]::ParameterName, 'Retries in a row without progress. The pauses before them double up to 30 s: 3 wait 2 s in all, 8 a minute, 20 seven minutes')
            [CompletionResult]::new('--max-image-size', '--max-image-size', [CompletionResultType]::ParameterName, 'Reject images larger than this after decompression [default and maximum: 4GiB less one byte]')
            [CompletionResult]::new('--limit-rate', '--limit-rate', [CompletionResultType]::ParameterName, 'Receive at most this much per second on average, on all connections together; at least 16KiB [default: no limit]')
            [CompletionResult]::new('--max-total-size', '--max-total-size', [CompletionResultType]::ParameterName, 'End the job when its images exceed this size in total; stored images are kept; exit code 3 [default: none]')
            [CompletionResult]::new('--max-time', '--max-time', [CompletionResultType]::ParameterName, 'End the job after this time; stored images are kept; exit code 3 [default: none]')
            [CompletionResult]::new('--tls', '--tls', [CompletionResultType]::ParameterName, 'Connect with TLS, also to addresses without jtps://')
            [CompletionResult]::new('--secure', '--secure', [CompletionResultType]::ParameterName, 'Connect with TLS, also to addresses without jtps://')
            [CompletionResult]::new('--no-tls', '--no-tls', [CompletionResultType]::ParameterName, 'Connect with plain TCP (the default; the last of --tls and --no-tls wins)')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Connect with plain TCP (the default; the last of --tls and --no-tls wins)')
            [CompletionResult]::new('--show-identity', '--show-identity', [CompletionResultType]::ParameterName, 'Print the line of --identity for the server''s --clients file, and exit')
            [CompletionResult]::new('--batch', '--batch', [CompletionResultType]::ParameterName, 'Fetch only images that are not in the folder yet')
            [CompletionResult]::new('--delta', '--delta', [CompletionResultType]::ParameterName, 'Fetch only images that are not in the folder yet')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'With --batch or --check: hash every file in the folder again instead of trusting its index')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Fetch, then keep running and fetch each new image until Ctrl-C')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Fetch, then keep running and fetch each new image until Ctrl-C')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'Print ID, size, type and name of each image on the server; fetch nothing')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay')
            [CompletionResult]::new('--check', '--check', [CompletionResultType]::ParameterName, 'Compare the folder with the server and print the differences; change nothing; exit code 3 if there are any')
            [CompletionResult]::new('--long', '--long', [CompletionResultType]::ParameterName, 'With --list: human-readable sizes; size, type, ID and name in columns')
            [CompletionResult]::new('--flat', '--flat', [CompletionResultType]::ParameterName, 'Store all images in the output folder itself: do not create or scan sub-folders')
            [CompletionResult]::new('--mirror', '--mirror', [CompletionResultType]::ParameterName, 'Make the folder match the server: rename files, and delete images that the server does not list; implies --batch')
            [CompletionResult]::new('--keep-existing', '--keep-existing', [CompletionResultType]::ParameterName, 'Do not replace files: an image whose name is in use gets its ID as a suffix')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Reuse a connection for many requests')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Reuse a connection for many requests')
            [CompletionResult]::new('--pipeline', '--pipeline', [CompletionResultType]::ParameterName, 'Send requests before earlier ones are answered; only for servers known to implement S1 and C2 of RFC.md')
            [CompletionResult]::new('--no-tcp-nodelay', '--no-tcp-nodelay', [CompletionResultType]::ParameterName, 'Do not set TCP_NODELAY: small writes may be delayed and merged')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print a JSON object on a line of stdout for each event, and for each image of --list')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG also works)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG also works)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
