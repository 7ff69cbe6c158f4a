package template

import (
	"strconv"
	"strings"
)

// node is a part of an expression.
type node interface{ isNode() }

type (
	literal struct{ value any }
	call    struct {
		namespace string // of a function of the template's own; else empty
		name      string // as typed
		args      []node
	}
	access struct {
		of    node
		index node // a string or a number
		safe  bool // .? and [?: null where there is nothing
	}
)

func (literal) isNode() {}
func (call) isNode()    {}
func (access) isNode()  {}

// expression takes a string of a template apart: an expression in brackets, or
// the text that it stands for. A text that begins with a bracket is written with two.
func expression(s string) (node, string, error) {
	switch {
	case strings.HasPrefix(s, "[["):
		return nil, s[1:], nil
	case len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']':
		return nil, s, nil
	case len(s) > maxExpression:
		return nil, "", bad("An expression has %d characters; at most %d are allowed.", len(s), maxExpression)
	}
	p := parser{s: s[1 : len(s)-1]}
	n, err := p.whole()
	if err != nil {
		return nil, "", bad("The template language expression '%s' is not valid: %s.", clip(s), err.Error())
	}
	return n, "", nil
}

// parser reads one expression by recursive descent.
type parser struct {
	s     string
	i     int
	depth int
}

func (p *parser) whole() (node, error) {
	n, err := p.value()
	if err != nil {
		return nil, err
	}
	if p.space(); p.i < len(p.s) {
		return nil, p.fail("expected its end and found '%s'", clip(p.s[p.i:]))
	}
	return n, nil
}

func (p *parser) fail(format string, args ...any) error {
	e := bad(format, args...)
	e.Msg += " at character " + strconv.Itoa(p.i+1)
	return e
}

func (p *parser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

// take steps over a word if it comes next.
func (p *parser) take(word string) bool {
	p.space()
	if !strings.HasPrefix(p.s[p.i:], word) {
		return false
	}
	p.i += len(word)
	return true
}

func (p *parser) value() (node, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("it nests deeper than %d levels", maxNesting)
	}
	defer func() { p.depth-- }()
	p.space()
	if p.i >= len(p.s) {
		return nil, p.fail("it ends too early")
	}
	var n node
	var err error
	switch c := p.s[p.i]; {
	case c == '\'':
		n, err = p.quoted()
	case c == '-' || c >= '0' && c <= '9':
		n, err = p.number()
	case letter(c):
		n, err = p.call()
	default:
		return nil, p.fail("expected a function, a number or a string in single quotes and found '%s'", clip(p.s[p.i:]))
	}
	if err != nil {
		return nil, err
	}
	return p.accesses(n)
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func (p *parser) word() string {
	from := p.i
	for p.i < len(p.s) && (letter(p.s[p.i]) || p.i > from && p.s[p.i] >= '0' && p.s[p.i] <= '9') {
		p.i++
	}
	return p.s[from:p.i]
}

func (p *parser) quoted() (node, error) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		if p.s[p.i] != '\'' {
			b.WriteByte(p.s[p.i])
			continue
		}
		if p.i+1 < len(p.s) && p.s[p.i+1] == '\'' { // two are one
			b.WriteByte('\'')
			p.i++
			continue
		}
		p.i++
		return literal{b.String()}, nil
	}
	return nil, p.fail("a string is not closed")
}

func (p *parser) number() (node, error) {
	from := p.i
	for p.i++; p.i < len(p.s) && strings.IndexByte("0123456789.eE", p.s[p.i]) >= 0; p.i++ {
	}
	typed := p.s[from:p.i]
	if n, err := strconv.ParseInt(typed, 10, 64); err == nil {
		return literal{n}, nil
	}
	f, err := strconv.ParseFloat(typed, 64)
	if err != nil {
		return nil, p.fail("'%s' is not a number", clip(typed))
	}
	return literal{f}, nil
}

// call reads name(…) or namespace.name(…).
func (p *parser) call() (node, error) {
	c := call{name: p.word()}
	if p.i < len(p.s) && p.s[p.i] == '.' {
		p.i++
		c.namespace, c.name = c.name, p.word()
	}
	if !p.take("(") {
		return nil, p.fail("expected '(' after '%s'", clip(c.name))
	}
	if p.take(")") {
		return c, nil
	}
	for {
		arg, err := p.value()
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, arg)
		switch {
		case p.take(","):
		case p.take(")"):
			return c, nil
		default:
			return nil, p.fail("expected ',' or ')' in the arguments of '%s'", clip(c.name))
		}
	}
}

// accesses reads .name, .?name, [index] and [?index] after a value.
func (p *parser) accesses(n node) (node, error) {
	for chain := 0; ; chain++ {
		if chain > maxNesting {
			return nil, p.fail("it has more than %d properties in a row", maxNesting)
		}
		switch {
		case p.take(".?"), p.take("."):
			safe := p.s[p.i-1] == '?'
			p.space()
			name := p.word()
			if name == "" {
				return nil, p.fail("expected the name of a property")
			}
			n = access{n, literal{name}, safe}
		case p.take("[?"), p.take("["):
			safe := p.s[p.i-1] == '?'
			index, err := p.value()
			if err != nil {
				return nil, err
			}
			if !p.take("]") {
				return nil, p.fail("expected ']'")
			}
			n = access{n, index, safe}
		default:
			return n, nil
		}
	}
}
