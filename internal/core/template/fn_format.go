package template

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// format fills {0}, {1,8} and {2:D3} as .NET's composite formats do.
func format(c *invocation, v []any) (any, error) {
	f, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		switch ch := f[i]; {
		case (ch == '{' || ch == '}') && i+1 < len(f) && f[i+1] == ch:
			b.WriteByte(ch)
			i++
		case ch == '}':
			return nil, c.fail("the format '%s' has a '}' without a '{'; two stand for one.", clip(f))
		case ch == '{':
			end := strings.IndexByte(f[i:], '}')
			if end < 0 {
				return nil, c.fail("the format '%s' has a '{' without a '}'; two stand for one.", clip(f))
			}
			s, err := c.item(f[i+1:i+end], v[1:])
			if err != nil {
				return nil, err
			}
			if err := c.room(len(s)); err != nil {
				return nil, err
			}
			b.WriteString(s)
			i += end
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), nil
}

// item formats one {index,width:format}.
func (c *invocation) item(spec string, v []any) (string, error) {
	head, how, _ := strings.Cut(spec, ":")
	number, width, aligned := strings.Cut(head, ",")
	i, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || i < 0 || i >= len(v) {
		return "", c.fail("'{%s}' names no argument: there are %d, from {0}.", clip(spec), len(v))
	}
	switch v[i].(type) {
	case []any, map[string]any, lambda:
		if err := c.roomFor(v[i]); err != nil {
			return "", err
		}
	}
	s := show(v[i])
	if n, ok := v[i].(int64); ok && how != "" {
		if s, err = c.figures(n, how); err != nil {
			return "", err
		}
	}
	if !aligned {
		return s, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(width))
	if err != nil || n > 1000 || n < -1000 {
		return "", c.fail("the width in '{%s}' must be a number up to 1000.", clip(spec))
	}
	pad := strings.Repeat(" ", max(0, max(n, -n)-utf8.RuneCountInString(s)))
	if n < 0 {
		return s + pad, nil
	}
	return pad + s, nil
}

// figures writes a number in one of .NET's formats.
func (c *invocation) figures(n int64, how string) (string, error) {
	if strings.Trim(how, "0") == "" && len(how) <= 100 {
		return fmt.Sprintf("%0*d", len(how), n), nil
	}
	digits := 0
	if len(how) > 1 {
		var err error
		if digits, err = strconv.Atoi(how[1:]); err != nil || digits < 0 || digits > 99 {
			return "", c.fail("the number format '%s' is not part of Ebb; D, X, F and zeros are.", clip(how))
		}
	}
	switch how[0] {
	case 'D', 'd':
		sign := ""
		if n < 0 {
			sign = "-"
		}
		figures := strings.TrimPrefix(strconv.FormatInt(n, 10), "-")
		return sign + strings.Repeat("0", max(0, digits-len(figures))) + figures, nil
	case 'X':
		return fmt.Sprintf("%0*X", digits, uint64(n)), nil
	case 'x':
		return fmt.Sprintf("%0*x", digits, uint64(n)), nil
	case 'F', 'f':
		if len(how) == 1 {
			digits = 2
		}
		return strconv.FormatFloat(float64(n), 'f', digits, 64), nil
	}
	return "", c.fail("the number format '%s' is not part of Ebb; D, X, F and zeros are.", clip(how))
}
