package template

import (
	"encoding/binary"
	"net/netip"
)

// network is a range of IPv4 addresses, as numbers.
type network struct {
	first, last uint32
	bits        int
}

func (c *invocation) network(v []any, i int) (network, error) {
	s, err := c.text(v, i)
	if err != nil {
		return network{}, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return network{}, c.fail("'%s' is not a range of IPv4 addresses such as 10.144.0.0/20; those of IPv6 are not part of Ebb.", clip(s))
	}
	b := p.Masked().Addr().As4()
	first := binary.BigEndian.Uint32(b[:])
	return network{first, first | mask(p.Bits()), p.Bits()}, nil
}

// mask has the bits of the addresses inside a range.
func mask(bits int) uint32 { return uint32(uint64(1)<<(32-bits) - 1) }

func address(n uint32) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b).String()
}

func parseCIDR(c *invocation, v []any) (any, error) {
	n, err := c.network(v, 0)
	if err != nil {
		return nil, err
	}
	low, high := n.first, n.last
	if n.bits < 31 { // the first names the network, the last reaches all of it
		low, high = low+1, high-1
	}
	return map[string]any{
		"network": address(n.first), "netmask": address(^mask(n.bits)), "broadcast": address(n.last),
		"firstUsable": address(low), "lastUsable": address(high), "cidr": int64(n.bits),
	}, nil
}

// cidrSubnet returns one of the parts of a range that have the given size.
func cidrSubnet(c *invocation, v []any) (any, error) {
	n, err := c.network(v, 0)
	if err != nil {
		return nil, err
	}
	bits, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	index, err := c.whole(v, 2)
	if err != nil {
		return nil, err
	}
	if bits < int64(n.bits) || bits > 32 || index < 0 || index >= 1<<(bits-int64(n.bits)) {
		return nil, c.fail("a range of /%d has no part %d of /%d.", n.bits, index, bits)
	}
	at := uint64(n.first) + uint64(index)<<(32-bits)
	a := netip.MustParseAddr(address(uint32(at)))
	return netip.PrefixFrom(a, int(bits)).String(), nil
}

// cidrHost returns a usable address of a range, by its place.
func cidrHost(c *invocation, v []any) (any, error) {
	n, err := c.network(v, 0)
	if err != nil {
		return nil, err
	}
	index, err := c.whole(v, 1)
	if err != nil {
		return nil, err
	}
	low, high := uint64(n.first), uint64(n.last)
	if n.bits < 31 {
		low, high = low+1, high-1
	}
	if index < 0 || uint64(index) > high-low {
		return nil, c.fail("a range of /%d has no usable address %d.", n.bits, index)
	}
	return address(uint32(low + uint64(index))), nil
}
