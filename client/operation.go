package client

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"time"
)

// firstLook is how soon an operation is asked after the first time. Ebb's own
// take milliseconds, and Retry-After counts in whole seconds.
const firstLook = 50 * time.Millisecond

// Operation is something the server has taken on and not finished.
type Operation struct {
	client *Client
	status string // path of Azure-AsyncOperation
	result string // path of Location, where there is no Azure-AsyncOperation
	pause  time.Duration
}

// operationOf reads the headers of an answer; nil if it is final already.
func (c *Client) operationOf(a Answer) (*Operation, error) {
	op := &Operation{client: c, pause: retryAfter(a.Header)}
	var err error
	if link := a.Header.Get("Azure-AsyncOperation"); link != "" {
		op.status, err = own(link)
		return op, err
	}
	if link := a.Header.Get("Location"); link != "" && a.Status == http.StatusAccepted {
		op.result, err = own(link)
		return op, err
	}
	return nil, nil
}

// Wait asks until the operation has ended. Its failure is an *[Error].
// A nil Operation has ended well.
func (o *Operation) Wait(ctx context.Context) error {
	if o == nil {
		return nil
	}
	for pause := firstLook; ; pause = o.pause {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		done, err := o.look(ctx)
		if done || err != nil {
			return err
		}
	}
}

func (o *Operation) look(ctx context.Context) (done bool, err error) {
	if o.status == "" {
		a, err := o.client.Do(ctx, http.MethodGet, o.result, nil, nil)
		if err != nil {
			return true, err
		}
		o.pause = retryAfter(a.Header)
		return a.Status != http.StatusAccepted, nil
	}
	var body struct {
		Status string          `json:"status"`
		Error  json.RawMessage `json:"error"`
	}
	a, err := o.client.Do(ctx, http.MethodGet, o.status, nil, &body)
	if err != nil {
		return true, err
	}
	o.pause = retryAfter(a.Header)
	switch body.Status {
	case "Succeeded":
		return true, nil
	case "Failed", "Canceled":
		e := &Error{RequestID: a.Header.Get("X-Ms-Request-Id")}
		e.fill(body.Error)
		if e.Message == "" {
			e.Message = "the operation ended as " + body.Status
		}
		return true, e
	}
	return false, nil
}

// retryAfter is how long the server wants to be left alone; 1 s where it does not say.
func retryAfter(h http.Header) time.Duration {
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s >= 0 {
		return max(time.Duration(s)*time.Second, 100*time.Millisecond)
	}
	return time.Second
}

// all yields every element of every page from path on. It stops after an error.
func all[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for path != "" {
			var page struct {
				Value    []T    `json:"value"`
				NextLink string `json:"nextLink"`
			}
			if _, err := c.Do(ctx, http.MethodGet, path, nil, &page); err != nil {
				yield(none, err)
				return
			}
			for _, v := range page.Value {
				if !yield(v, nil) {
					return
				}
			}
			if page.NextLink == "" {
				return
			}
			next, err := own(page.NextLink)
			if err == nil && next == path {
				err = errors.New("follow the pages of a list: the next page is this one")
			}
			if err != nil {
				yield(none, err)
				return
			}
			path = next
		}
	}
}

// Collect gathers a sequence into a slice; never nil without an error.
func Collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	list := []T{}
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
