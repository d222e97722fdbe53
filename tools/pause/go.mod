module quarterdeck.dev/tools/pause

go 1.24
