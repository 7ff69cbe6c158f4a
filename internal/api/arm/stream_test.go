package arm_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestStreams takes the two ways past a plain answer through the router: a
// WebSocket, which agents use, and a flush, which log readers wait for.
func TestStreams(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	rt.Handle("GET /socket/{node}", func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return 0, nil, err
		}
		defer c.CloseNow()
		return 0, nil, c.Write(r.Context(), websocket.MessageText, []byte("hello "+r.PathValue("node")))
	})
	more := make(chan struct{})
	rt.Handle("GET /flush", func(w http.ResponseWriter, _ *http.Request) (int, any, error) {
		if _, err := io.WriteString(w, "first\n"); err != nil {
			return 0, nil, err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return 0, nil, err
		}
		<-more
		return 0, nil, nil
	})
	s := httptest.NewServer(rt)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + goodToken}}

	c, _, err := websocket.Dial(ctx, s.URL+"/Socket/N1", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if _, msg, err := c.Read(ctx); err != nil || string(msg) != "hello N1" {
		t.Errorf("the socket says %q, %v", msg, err)
	}

	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/flush", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Errorf("before the handler is done its reader has %q, %v", line, err)
	}
	close(more)
}

// TestHalfAnAnswerIsNotAWholeOne fails a handler that has begun to write: the
// client must see a broken connection and not a short, good answer.
func TestHalfAnAnswerIsNotAWholeOne(t *testing.T) {
	t.Parallel()
	rt := newRouter(t)
	rt.Public("GET /half", func(w http.ResponseWriter, _ *http.Request) (int, any, error) {
		if _, err := io.WriteString(w, "half"); err != nil {
			return 0, nil, err
		}
		return 0, nil, io.ErrUnexpectedEOF
	})
	rt.Public("GET /unfit", func(http.ResponseWriter, *http.Request) (int, any, error) { return 200, func() {}, nil })
	s := httptest.NewServer(rt)
	defer s.Close()
	get := func(path string) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if err != nil {
			return 0, err
		}
		res, err := s.Client().Do(r)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
		return res.StatusCode, err
	}
	if status, err := get("/half"); err == nil {
		t.Errorf("half an answer arrived as %d and whole", status)
	}
	if status, err := get("/unfit"); err != nil || status != 500 {
		t.Errorf("an answer that is no JSON arrived as %d, %v; want 500", status, err)
	}
}
