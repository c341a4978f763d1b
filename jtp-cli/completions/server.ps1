
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'server' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'server'
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
        'server' {
            [CompletionResult]::new('--images', '--images', [CompletionResultType]::ParameterName, 'Folder of images to share, or the URL of images in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER')
            [CompletionResult]::new('--images-dir', '--images-dir', [CompletionResultType]::ParameterName, 'Folder of images to share, or the URL of images in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER')
            [CompletionResult]::new('--only', '--only', [CompletionResultType]::ParameterName, 'Share only files whose name (with --recursive: path below the folder) contains this text, ignoring case')
            [CompletionResult]::new('--name-contains', '--name-contains', [CompletionResultType]::ParameterName, 'Share only files whose name (with --recursive: path below the folder) contains this text, ignoring case')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Share only files whose path below the folder matches, such as ''*.jpg''; repeatable. Of all --include and --exclude, the last match decides')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Skip files whose path below the folder matches; repeatable. A file without a match is shared, unless the first pattern is an --include')
            [CompletionResult]::new('--compression-threshold', '--compression-threshold', [CompletionResultType]::ParameterName, 'Compress an image if that reduces it below this fraction of its size; 0 disables compression')
            [CompletionResult]::new('--compress-threshold', '--compress-threshold', [CompletionResultType]::ParameterName, 'Compress an image if that reduces it below this fraction of its size; 0 disables compression')
            [CompletionResult]::new('--watch-interval', '--watch-interval', [CompletionResultType]::ParameterName, 'Rescan the folder at this interval instead of using file system events; list an object store at this interval')
            [CompletionResult]::new('--cache-dir', '--cache-dir', [CompletionResultType]::ParameterName, 'Folder for the ID index and compressed images; no other user may write to it [default: CACHE_DIRECTORY as set by systemd, or jtp in the user''s cache folder]')
            [CompletionResult]::new('--cache-size', '--cache-size', [CompletionResultType]::ParameterName, 'Maximum size of the compressed images there; the least recently used are evicted. 0 keeps them in memory')
            [CompletionResult]::new('--store-cache-size', '--store-cache-size', [CompletionResultType]::ParameterName, 'Keep copies of images from an object store in the cache folder, up to this size; the least recently used are evicted. Several servers can share the folder. 0 keeps none')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Address and port to listen on; port 0 picks a free port')
            [CompletionResult]::new('--proxy-protocol', '--proxy-protocol', [CompletionResultType]::ParameterName, 'Proxies (addresses or networks, repeatable, or separated by commas): their connections must begin with a PROXY protocol header, version 2, which names the client. List only proxies: others could choose their address')
            [CompletionResult]::new('--metrics', '--metrics', [CompletionResultType]::ParameterName, 'Serve metrics for Prometheus at http://ADDR/metrics, and the health of the server at /healthz. Everyone who can connect can read them: a loopback address such as 127.0.0.1:9184 is a good choice')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'Certificate (PEM); generated with its key at the first start if neither exists [default: cert.pem]')
            [CompletionResult]::new('--key', '--key', [CompletionResultType]::ParameterName, 'Private key of the certificate (PEM) [default: key.pem]')
            [CompletionResult]::new('--clients', '--clients', [CompletionResultType]::ParameterName, 'Admit only clients whose keys are in this file: lines "sha256:HEX name", # comments. Implies --require-tls')
            [CompletionResult]::new('--rate-limit', '--rate-limit', [CompletionResultType]::ParameterName, 'Maximum requests, and TLS handshakes, per window from one client address (IPv6: one /64 network); 0 means no limit')
            [CompletionResult]::new('--rate-limit-window', '--rate-limit-window', [CompletionResultType]::ParameterName, 'Length of the rate limit window')
            [CompletionResult]::new('--keep-alive-timeout', '--keep-alive-timeout', [CompletionResultType]::ParameterName, 'How long a connection may be idle between requests')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'Maximum concurrent connections')
            [CompletionResult]::new('--max-connections-per-ip', '--max-connections-per-ip', [CompletionResultType]::ParameterName, 'Maximum concurrent connections from one client address (IPv6: one /64 network); 0 means no limit [default: an eighth of --max-connections]')
            [CompletionResult]::new('--max-watchers', '--max-watchers', [CompletionResultType]::ParameterName, 'Maximum concurrent clients that watch. Above it, the one that has been idle longest is disconnected, of the address with the most. 0 means no limit [default: half of --max-connections]')
            [CompletionResult]::new('--max-handshakes', '--max-handshakes', [CompletionResultType]::ParameterName, 'Maximum concurrent TLS handshakes; others wait, and client addresses take turns. 0 means no limit [default: 4 per processor]')
            [CompletionResult]::new('--drain-timeout', '--drain-timeout', [CompletionResultType]::ParameterName, 'How long a shutdown waits for requests in progress')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Format of the log on stderr')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out')
            [CompletionResult]::new('--recursive', '--recursive', [CompletionResultType]::ParameterName, 'Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out')
            [CompletionResult]::new('--index-only', '--index-only', [CompletionResultType]::ParameterName, 'Bring the catalog of an object store up to date, and exit: for a job that only indexes')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Let clients watch for new images (the default)')
            [CompletionResult]::new('--no-watch', '--no-watch', [CompletionResultType]::ParameterName, 'Refuse to let clients watch for new images; the catalog still follows the folder')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'Hash every file again instead of trusting the index')
            [CompletionResult]::new('--no-sandbox', '--no-sandbox', [CompletionResultType]::ParameterName, 'Do not confine the process to the images folder and the cache (Linux: Landlock)')
            [CompletionResult]::new('--no-tcp-nodelay', '--no-tcp-nodelay', [CompletionResultType]::ParameterName, 'Do not set TCP_NODELAY: small writes may be delayed and merged')
            [CompletionResult]::new('--no-tls', '--no-tls', [CompletionResultType]::ParameterName, 'Serve plain TCP only, without TLS')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Serve plain TCP only, without TLS')
            [CompletionResult]::new('--require-tls', '--require-tls', [CompletionResultType]::ParameterName, 'Refuse plain TCP [default: plain TCP from this machine only]')
            [CompletionResult]::new('--allow-plain', '--allow-plain', [CompletionResultType]::ParameterName, 'Accept plain TCP from all clients, in addition to TLS')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG also works)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG also works)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
