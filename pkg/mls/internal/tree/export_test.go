package tree

// Map is the persistent map of counts.
type Map struct{ pmap[int] }

func (m *Map) Add(key []byte)                 { *m.at(key)++ }
func (m Map) Count(key []byte, delta int) Map { return Map{count(m.pmap, key, delta)} }
func (m Map) Get(key []byte) int              { return m.get(key) }
func (m Map) All(yield func(int) bool) bool   { return m.all(yield) }
