package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/client"
)

// blobAccount matches the host of any storage account's Blob service.
var blobAccount = regexp.MustCompile(`^([a-z0-9]{3,24})\.blob\.core\.windows\.net$`)

// askAgain is how long the server's word counts that it has no account of a name.
const askAgain = 10 * time.Second

// accounts knows which storage accounts the server has besides those of workspaces:
// the ones that somebody made, as a template of a workspace does. All others are
// real ones, and pass through.
type accounts struct {
	file client.File

	mu    sync.Mutex
	c     *client.Client
	names map[string]account
}

type account struct {
	there bool
	asked time.Time
}

// has reports whether a host is that of an account of the server's.
func (a *accounts) has(ctx context.Context, host string) (bool, error) {
	m := blobAccount.FindStringSubmatch(strings.ToLower(strings.TrimSuffix(host, ".")))
	if m == nil {
		return false, nil
	}
	a.mu.Lock() // one asks, the others wait: they are of one client
	defer a.mu.Unlock()
	if known, ok := a.names[m[1]]; ok && (known.there || time.Since(known.asked) < askAgain) {
		return known.there, nil
	}
	if a.c == nil {
		c, err := client.New(a.file, client.Options{UserAgent: "ebb-cli"})
		if err != nil {
			return false, err
		}
		a.c, a.names = c, map[string]account{}
	}
	var answer struct{ Reason string }
	_, err := a.c.Do(ctx, "POST", "/subscriptions/"+a.file.SubscriptionID+"/providers/Microsoft.Storage/checkNameAvailability?api-version=2023-05-01",
		map[string]string{"name": m[1], "type": "Microsoft.Storage/storageAccounts"}, &answer)
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Status < 500 {
		err = nil // it answers, and not for this account
	}
	if err != nil {
		return false, fmt.Errorf("ask the Ebb server whether it has the storage account %s: %w", m[1], err)
	}
	a.names[m[1]] = account{answer.Reason == "AlreadyExists", time.Now()}
	return answer.Reason == "AlreadyExists", nil
}

func (a *accounts) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c != nil {
		a.c.Close()
	}
}
