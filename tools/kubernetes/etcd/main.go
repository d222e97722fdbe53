// Command etcd runs the server of go.etcd.io/etcd, whose own main is not importable under one go.mod.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
