package kv

// MemoryGroups counts the groups that m keeps, live or not.
func MemoryGroups(m *Memory) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.groups)
}
