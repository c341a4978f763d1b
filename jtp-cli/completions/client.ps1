
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
            [CompletionResult]::new('--addr', '--addr', [CompletionResultType]::ParameterName, 'Server to fetch from; without a port, 8443')
            [CompletionResult]::new('--server-name', '--server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must hold [default: the host; localhost for a loopback address]')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'Certificates to trust (PEM) [default: cert.pem if there is one, else the system''s]')
            [CompletionResult]::new('--out', '--out', [CompletionResultType]::ParameterName, 'Folder for the images; made if missing')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Folder for the images; made if missing')
            [CompletionResult]::new('--repeat', '--repeat', [CompletionResultType]::ParameterName, 'Do the whole job this many times')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Share the work among this many connections, 1 to 32')
            [CompletionResult]::new('--parallel', '--parallel', [CompletionResultType]::ParameterName, 'Share the work among this many connections, 1 to 32')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Longest time to connect to an address')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest time without a byte while the server owes one')
            [CompletionResult]::new('--retries', '--retries', [CompletionResultType]::ParameterName, 'How often to try again without getting anywhere, waiting longer each time')
            [CompletionResult]::new('--max-image-size', '--max-image-size', [CompletionResultType]::ParameterName, 'Refuse images that are larger than this once they are decompressed [default: 4GiB less one byte]')
            [CompletionResult]::new('--tls', '--tls', [CompletionResultType]::ParameterName, 'Speak TLS')
            [CompletionResult]::new('--secure', '--secure', [CompletionResultType]::ParameterName, 'Speak TLS')
            [CompletionResult]::new('--no-tls', '--no-tls', [CompletionResultType]::ParameterName, 'Speak plain TCP (this is the default; the last of --tls and --no-tls wins)')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Speak plain TCP (this is the default; the last of --tls and --no-tls wins)')
            [CompletionResult]::new('--batch', '--batch', [CompletionResultType]::ParameterName, 'Fetch only what the folder lacks')
            [CompletionResult]::new('--delta', '--delta', [CompletionResultType]::ParameterName, 'Fetch only what the folder lacks')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'With --batch: read every file in the folder anew, whatever the index there says')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Fetch, then stay and fetch each new image, until Ctrl-C')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Fetch, then stay and fetch each new image, until Ctrl-C')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'Print ID, size, type and name of each image of the server, and fetch nothing')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Use a connection for many requests')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Use a connection for many requests')
            [CompletionResult]::new('--pipeline', '--pipeline', [CompletionResultType]::ParameterName, 'Send requests before earlier ones are answered; only for servers known to keep S1 and C2 of RFC.md')
            [CompletionResult]::new('--no-tcp-nodelay', '--no-tcp-nodelay', [CompletionResultType]::ParameterName, 'Send small packets late, to send fewer')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log what happens; -vv for more (RUST_LOG works too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Log what happens; -vv for more (RUST_LOG works too)')
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
