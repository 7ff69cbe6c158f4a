package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ebb-compute/ebb/internal/backup"
	"github.com/ebb-compute/ebb/internal/cli"
)

// say tells a person how far a backup or restore is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// makeBackup copies a data folder, beside the server that may run on it.
func makeBackup(ctx context.Context, f cli.BackupFlags) (cli.Backup, error) {
	made, err := backup.Make(ctx, f.Data, f.To, version, time.Now(), say)
	return cli.Backup{Folder: made.Dir, RowsBytes: made.Rows, Blobs: made.Blobs, BlobsBytes: made.BlobsBytes, Also: made.Also}, err
}

// restoreBackup puts a copy into a data folder on which no server runs.
func restoreBackup(ctx context.Context, f cli.RestoreFlags) (cli.Restored, error) {
	done, err := backup.Restore(ctx, f.From, f.Data, f.Replace, time.Now(), say)
	return cli.Restored{Data: f.Data, Made: done.Made, Blobs: done.Blobs, BlobsBytes: done.Bytes, Epoch: done.Epoch, Aside: done.Aside}, err
}
