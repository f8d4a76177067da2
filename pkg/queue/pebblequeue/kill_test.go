package pebblequeue_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// childDir tells this test program to be the process that is killed.
const childDir = "MMR_TEST_CRASH_DIR"

// TestCrashChild is not a test: it is the process that TestKill kills. It says
// what it was answered, a line each, after it was.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("run by TestKill")
	}
	s := openDir(t, dir, queuetest.NewManualClock())
	if err := s.Create(t.Context(), "q", queue.Limits{MaxEntries: 1 << 20}); err != nil && !errors.Is(err, queue.ErrExists) {
		t.Fatal(err)
	}
	st, err := s.Stat(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	say := func(format string, a ...any) {
		if _, err := os.Stdout.WriteString(fmt.Sprintf(format, a...) + "\n"); err != nil {
			os.Exit(3) // the parent is gone
		}
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d/%d/%d", st.Last, w/2, i) // two writers race to it: one is a duplicate
				r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte(name), Dedup: []byte(name)})
				if err != nil {
					say("error %v", err)
					return
				}
				say("appended %d %s", r.Seq, name)
				if w == 0 && i%50 == 49 {
					if err := s.Ack(t.Context(), "q", r.Seq-20); err != nil {
						say("error %v", err)
						return
					}
					say("acked %d", r.Seq-20)
				}
			}
		})
	}
	wg.Wait()
}

// TestKill kills a process with SIGKILL while it appends and acknowledges, again
// and again on the same store. What it said it was answered must be there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	all := map[string]queue.Seq{}
	acked := queue.Seq(0)
	rounds := 8
	if testing.Short() || raceEnabled {
		rounds = 2
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 300*(round+1) {
				if err := cmd.Process.Kill(); err != nil { // what it said before is read to the end
					t.Fatal(err)
				}
			}
			var seq queue.Seq
			var name string
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "error"):
				t.Error(line)
			case strings.HasPrefix(line, "acked"):
				if _, err := fmt.Sscanf(line, "acked %d", &seq); err == nil {
					acked = max(acked, seq)
				}
			default: // a line may be cut, and then it was not said
				if n, err := fmt.Sscanf(line, "appended %d %s", &seq, &name); err == nil && n == 2 && strings.Count(name, "/") == 2 {
					all[name] = seq
				}
			}
		}
		_ = cmd.Wait() // it was killed
		s := openDir(t, dir, queuetest.NewManualClock())
		checkKilled(t, s, all, acked)
		s.close(t)
	}
	t.Logf("%d kills, %d names answered", rounds, len(all))
}

func checkKilled(t *testing.T, s *store, all map[string]queue.Seq, acked queue.Seq) {
	t.Helper()
	if len(all) == 0 {
		t.Fatal("the process did nothing before it was killed")
	}
	if r, err := s.Audit(t.Context(), false); err != nil || !r.Sound() {
		t.Fatalf("audit: %v, %v", r, err)
	}
	st, err := s.Stat(t.Context(), "q")
	if err != nil || st.Acked < acked {
		t.Fatalf("Stat = %+v, %v; acknowledged up to %d", st, err, acked)
	}
	there := map[queue.Seq]string{}
	for after := queue.Seq(0); ; {
		es, err := s.Read(t.Context(), "q", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			there[e.Seq], after = string(e.Data), e.Seq
		}
	}
	for name, seq := range all {
		if seq > st.Acked && there[seq] != name {
			t.Errorf("entry %d is %q, was answered as %q", seq, there[seq], name)
		}
	}
}

// copyFS copies the files of a database that is open, as they are now.
func copyFS(t *testing.T, from vfs.FS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	if ok, err := vfs.Clone(from, to, "", ""); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return to
}

// log returns the name of the database's only log, and its bytes.
func logOf(t *testing.T, fs vfs.FS) (name string, b []byte) {
	t.Helper()
	list, err := fs.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if strings.HasSuffix(n, ".log") {
			if name != "" {
				t.Fatalf("two logs: %v", list)
			}
			name = n
		}
	}
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b = make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return name, b
}

// withLog is fs with other bytes in its log.
func withLog(t *testing.T, fs vfs.FS, name string, b []byte) vfs.FS {
	t.Helper()
	c := copyFS(t, fs)
	f, err := c.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(b)); err != nil { // Pebble's own checks spoil what was written
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// survivors opens a disk and counts the entries that are left; -1 if the store
// says that it is damaged. They must be the first ones.
func survivors(t *testing.T, fs vfs.FS) int {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: silent{pebble.DefaultLogger}})
	if err != nil {
		return -1
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, stop := openFS(t, fs)
	defer stop()
	es, err := s.Read(t.Context(), "q", 0, 1000)
	if err != nil {
		if errors.Is(err, queue.ErrNotFound) {
			return 0
		}
		t.Fatal(err)
	}
	for i, e := range es {
		if e.Seq != queue.Seq(i+1) || string(e.Data) != fmt.Sprint("entry ", i+1) {
			t.Fatalf("entry %d is %q", e.Seq, e.Data)
		}
	}
	if r, err := s.Audit(t.Context(), false); err != nil || !r.Sound() {
		t.Fatalf("audit: %v, %v", r, err)
	}
	if r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("next")}); err != nil || r.Seq != queue.Seq(len(es)+1) {
		t.Fatalf("append after %d survivors: %+v, %v", len(es), r, err)
	}
	return len(es)
}

// logBlock is the unit in which Pebble looks for damage in its log.
const logBlock = 32 << 10

// TestTornLog cuts the log at every byte of its last record: it was never
// answered, and is as if it had not been made. Then it flips bytes of the whole log.
// Damage before the last 32 KiB is never taken for the end of the log: the store
// refuses to open. In the last 32 KiB it is, since that is what a crash leaves: what
// was before is there, what comes behind is lost (docs/reliability.md).
func TestTornLog(t *testing.T) {
	fs := vfs.NewMem()
	_, stop := openFS(t, fs)
	stop()
	s, stop := openFS(t, fs)
	defer stop()
	if err := s.Create(t.Context(), "q", queue.Limits{}); err != nil {
		t.Fatal(err)
	}
	const n = 500
	var ends []int // of the log after each append
	for i := range n {
		if r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: fmt.Append(nil, "entry ", i+1), Dedup: fmt.Append(nil, i)}); err != nil || r.Seq != queue.Seq(i+1) {
			t.Fatal(r, err)
		}
		_, b := logOf(t, fs)
		ends = append(ends, len(b))
	}
	disk := copyFS(t, fs)
	name, log := logOf(t, disk)
	if got := survivors(t, copyFS(t, disk)); got != n {
		t.Fatalf("%d entries on an undamaged disk", got)
	}
	last := ends[n-2] // where the last record begins
	step := 1
	if raceEnabled {
		step = 17
	}
	for cut := last; cut < len(log); cut += step {
		if got := survivors(t, withLog(t, disk, name, log[:cut])); got != n-1 {
			t.Errorf("cut at %d of the last record's %d bytes: %d entries, want %d", cut-last, len(log)-last, got, n-1)
		}
	}
	stride := 211
	if testing.Short() || raceEnabled {
		stride = 4111
	}
	outcome := map[string]int{}
	for i := 0; i < len(log); i += stride {
		b := append([]byte{}, log...)
		b[i] ^= 0x41
		before := 0 // entries whose records end before the flipped byte
		for before < n && ends[before] <= i {
			before++
		}
		switch got := survivors(t, withLog(t, disk, name, b)); {
		case got == -1:
			outcome["refused"]++
		case got == n:
			outcome["of no meaning"]++
		case i/logBlock == len(log)/logBlock && got >= before:
			outcome["taken for the end"]++
		default:
			t.Errorf("a byte flipped at %d of %d: %d entries, %d were before it, and nobody is told", i, len(log), got, before)
		}
	}
	t.Logf("flipped bytes of a log of %d: %v", len(log), outcome)
	if outcome["refused"] == 0 {
		t.Error("no damage was refused: the log is too short for this test")
	}
}
