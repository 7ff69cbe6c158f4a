package cli

import (
	"context"
	"fmt"
	"net/http"
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
	file     client.File
	patience time.Duration // see [client.Options]

	mu    sync.Mutex // not held while the server is asked: each name waits for itself
	c     *client.Client
	names map[string]account
}

type account struct {
	there bool
	asked time.Time
}

// has reports whether a host is that of an account of the server's. Only the
// server's whole answer says that it is not: what is meant for it must not be sent
// to the real one because the server was in trouble, or would not say.
func (a *accounts) has(ctx context.Context, host string) (bool, error) {
	m := blobAccount.FindStringSubmatch(strings.ToLower(strings.TrimSuffix(host, ".")))
	if m == nil {
		return false, nil
	}
	c, known, err := a.recall(m[1])
	if err != nil || known.there || time.Since(known.asked) < askAgain {
		return known.there, err
	}
	there, err := ask(ctx, c, a.file.SubscriptionID, m[1])
	if err != nil {
		return false, fmt.Errorf("ask the Ebb server whether it has the storage account %s: %w", m[1], err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names[m[1]] = account{there, time.Now()}
	return there, nil
}

// recall returns who is asked, and what was answered the last time.
func (a *accounts) recall(name string) (*client.Client, account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c == nil {
		c, err := client.New(a.file, client.Options{UserAgent: "ebb-cli", Patience: a.patience})
		if err != nil {
			return nil, account{}, err
		}
		a.c, a.names = c, map[string]account{}
	}
	return a.c, a.names[name], nil
}

// ask puts Azure's question whether the name of an account may still be had.
func ask(ctx context.Context, c *client.Client, subscription, name string) (there bool, err error) {
	var answer struct {
		NameAvailable *bool
		Reason        string
	}
	got, err := c.Do(ctx, "POST", "/subscriptions/"+subscription+"/providers/Microsoft.Storage/checkNameAvailability?api-version=2023-05-01",
		map[string]string{"name": name, "type": "Microsoft.Storage/storageAccounts"}, &answer)
	switch {
	case err != nil:
		return false, err
	case got.Status != http.StatusOK || answer.NameAvailable == nil || !*answer.NameAvailable && answer.Reason != "AlreadyExists":
		return false, fmt.Errorf("it answered %d %.200q, which says neither", got.Status, got.Body)
	}
	return !*answer.NameAvailable, nil
}

func (a *accounts) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c != nil {
		a.c.Close()
	}
}
