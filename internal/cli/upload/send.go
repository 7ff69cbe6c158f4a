package upload

import (
	"context"
	"os"
	"path"
	"sync"

	"github.com/ebb-compute/ebb/client"
)

// senders is how many files go at once.
const senders = 8

// Send puts a folder's files into a container below a prefix. Said is told of
// every byte; it may be called by several goroutines at once.
func Send(ctx context.Context, to *client.Container, f *Folder, prefix string, said func(n int64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files := make(chan File)
	var once sync.Once
	var failed error
	var wg sync.WaitGroup
	for range min(senders, len(f.Files)) {
		wg.Go(func() {
			for file := range files {
				if err := sendFile(ctx, to, file, path.Join(prefix, file.Name), said); err != nil {
					once.Do(func() { failed = err; cancel() })
				}
			}
		})
	}
	for _, file := range f.Files {
		select {
		case files <- file:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(files)
	wg.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

func sendFile(ctx context.Context, to *client.Container, file File, name string, said func(n int64)) error {
	in, err := os.Open(file.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	return to.Put(ctx, name, in, file.Size, said)
}
