package pyenv

import (
	"context"
	"net"
	"slices"
	"testing"
)

func TestPlacesWithoutAHostAreLeftOut(t *testing.T) {
	if behindProxy() {
		t.Skip("a proxy looks up names here")
	}
	lookup := func(_ context.Context, host string) ([]string, error) {
		if host == "gone.example" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []string{"127.0.0.1"}, nil
	}
	kept, left := withoutUnknown(t.Context(), []string{
		"--find-links https://gone.example/simple/index.html",
		"--extra-index-url=https://gone.example/simple",
		"-f https://here.example/wheels",
		"--index-url https://gone.example/only",
		"-f ./wheels",
		"--extra-index-url http://10.0.0.1/simple",
		"scikit-learn>=1",
		"--find-linksome",
	}, lookup)
	if want := []string{"--find-links https://gone.example/simple/index.html", "--extra-index-url=https://gone.example/simple"}; !slices.Equal(left, want) {
		t.Errorf("left out %q, want %q", left, want)
	}
	if want := []string{"-f https://here.example/wheels", "--index-url https://gone.example/only", "-f ./wheels", "--extra-index-url http://10.0.0.1/simple", "scikit-learn>=1", "--find-linksome"}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
}
