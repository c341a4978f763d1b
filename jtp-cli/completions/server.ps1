
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
            [CompletionResult]::new('--images', '--images', [CompletionResultType]::ParameterName, 'Folder whose images are shared')
            [CompletionResult]::new('--images-dir', '--images-dir', [CompletionResultType]::ParameterName, 'Folder whose images are shared')
            [CompletionResult]::new('--only', '--only', [CompletionResultType]::ParameterName, 'Share only files whose name contains this, in upper or lower case')
            [CompletionResult]::new('--name-contains', '--name-contains', [CompletionResultType]::ParameterName, 'Share only files whose name contains this, in upper or lower case')
            [CompletionResult]::new('--compression-threshold', '--compression-threshold', [CompletionResultType]::ParameterName, 'Compress a BMP or other image if that brings it below this share of its size; 0 never compresses')
            [CompletionResult]::new('--compress-threshold', '--compress-threshold', [CompletionResultType]::ParameterName, 'Compress a BMP or other image if that brings it below this share of its size; 0 never compresses')
            [CompletionResult]::new('--watch-interval', '--watch-interval', [CompletionResultType]::ParameterName, 'Look through the folder at this interval, rather than be told of changes by the system')
            [CompletionResult]::new('--cache-dir', '--cache-dir', [CompletionResultType]::ParameterName, 'Folder for the index of IDs and for compressed images [default: jtp in the user''s cache folder]')
            [CompletionResult]::new('--cache-size', '--cache-size', [CompletionResultType]::ParameterName, 'Room for compressed images there; those used least recently go first. 0 keeps them in memory')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Address and port to listen on; port 0 picks a free one')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'Certificate (PEM); made with its key on the first start if neither is there [default: cert.pem]')
            [CompletionResult]::new('--key', '--key', [CompletionResultType]::ParameterName, 'Private key of the certificate (PEM) [default: key.pem]')
            [CompletionResult]::new('--rate-limit', '--rate-limit', [CompletionResultType]::ParameterName, 'Most requests of one client address (IPv6: of one /64 network) in a window; 0 sets no limit')
            [CompletionResult]::new('--rate-limit-window', '--rate-limit-window', [CompletionResultType]::ParameterName, 'Length of that window')
            [CompletionResult]::new('--keep-alive-timeout', '--keep-alive-timeout', [CompletionResultType]::ParameterName, 'How long a connection may be idle between requests')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'Most connections at a time')
            [CompletionResult]::new('--max-connections-per-ip', '--max-connections-per-ip', [CompletionResultType]::ParameterName, 'Most connections at a time of one client address (IPv6: of one /64 network); 0 sets no limit')
            [CompletionResult]::new('--drain-timeout', '--drain-timeout', [CompletionResultType]::ParameterName, 'How long the end waits for what is under way')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Let clients wait for new images (this is the default)')
            [CompletionResult]::new('--no-watch', '--no-watch', [CompletionResultType]::ParameterName, 'Refuse clients that want to wait for new images; the folder is followed all the same')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'Read every file anew, whatever the index says')
            [CompletionResult]::new('--no-tcp-nodelay', '--no-tcp-nodelay', [CompletionResultType]::ParameterName, 'Send small packets late, to send fewer')
            [CompletionResult]::new('--no-tls', '--no-tls', [CompletionResultType]::ParameterName, 'Plain TCP alone, without TLS')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Plain TCP alone, without TLS')
            [CompletionResult]::new('--require-tls', '--require-tls', [CompletionResultType]::ParameterName, 'Plain TCP for nobody [without this: for clients on this machine]')
            [CompletionResult]::new('--allow-plain', '--allow-plain', [CompletionResultType]::ParameterName, 'Plain TCP for everybody beside TLS')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG works too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log more; -vv for even more (RUST_LOG works too)')
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
