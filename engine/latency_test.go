package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const msec = time.Millisecond

// addEach adds a sample of each of the durations to a size.
func addEach(l *latencies, items int, took ...time.Duration) {
	for _, d := range took {
		l.add(items, d, 0)
	}
}

// rising returns 1 ms to n ms.
func rising(n int) []time.Duration {
	durations := make([]time.Duration, n)
	for i := range durations {
		durations[i] = time.Duration(i+1) * msec
	}
	return durations
}

func wantLatency(t *testing.T, when string, got time.Duration, ok bool, want time.Duration) {
	t.Helper()
	if ok != (want != 0) || got != want {
		t.Errorf("%s it is %v, %v, want %v", when, got, ok, want)
	}
}

func TestSizesFormClasses(t *testing.T) {
	t.Parallel()
	classes := [][]int{{-1, 0, 1}, {2}, {3, 4}, {5, 7, 8}, {9, 16}, {17, 32}, {33, 64}, {513, 1024}, {1025, 2048}, {1 << 30}, {1<<30 + 1, 1 << 31, 1 << 62}}
	var l latencies
	for i, sizes := range classes {
		for _, items := range sizes {
			before, _ := l.fastest(items, 0)
			if slices.Index(sizes, items) > 0 && before == 0 {
				t.Errorf("%d items are not of the class of %d", items, sizes[0])
			}
			if slices.Index(sizes, items) == 0 && before != 0 {
				t.Errorf("%d items are of the class of fewer", items)
			}
			for range minFastestSamples {
				l.add(items, time.Duration(i+1)*msec, 0)
			}
		}
	}
	for i, sizes := range classes {
		for _, items := range sizes {
			got, ok := l.fastest(items, 0)
			wantLatency(t, fmt.Sprintf("of %d items", items), got, ok, time.Duration(i+1)*msec)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		add  func(l *latencies)
		want time.Duration // 0 for none
	}{
		"nothing is known at first":    {func(*latencies) {}, 0},
		"19 samples are too few":       {func(l *latencies) { addEach(l, 1, rising(19)...) }, 0},
		"the 19th of 20 samples":       {func(l *latencies) { addEach(l, 1, rising(20)...) }, 19 * msec},
		"the 20th of 21 samples":       {func(l *latencies) { addEach(l, 1, rising(21)...) }, 20 * msec},
		"the 95th of 100 samples":      {func(l *latencies) { addEach(l, 1, rising(100)...) }, 95 * msec},
		"in whatever order":            {func(l *latencies) { all := rising(100); slices.Reverse(all); addEach(l, 1, all...) }, 95 * msec},
		"other sizes do not count":     {func(l *latencies) { addEach(l, 1, rising(19)...); addEach(l, 2, rising(100)...) }, 0},
		"the last 128 of 1000 samples": {func(l *latencies) { addEach(l, 1, rising(1000)...) }, 994 * msec},
		"samples count for 60s":        {func(l *latencies) { addEach(l, 1, rising(20)...); <-time.After(60 * time.Second) }, 19 * msec},
		"samples do not count longer":  {func(l *latencies) { addEach(l, 1, rising(20)...); <-time.After(60*time.Second + 1) }, 0},
		"older samples leave too few":  {func(l *latencies) { l.add(1, msec, 0); <-time.After(time.Minute + 1); addEach(l, 1, rising(19)...) }, 0},
		"older samples are not among the many": {func(l *latencies) {
			addEach(l, 1, rising(50)...)
			<-time.After(time.Minute + 1)
			addEach(l, 1, rising(20)...)
		}, 19 * msec},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l latencies
				test.add(&l)
				got, ok := l.percentile95(1)
				wantLatency(t, "the percentile", got, ok, test.want)
			})
		})
	}
}

// TestPercentileIsHardlyOutdated changes the samples under a percentile that was
// asked for before.
func TestPercentileIsHardlyOutdated(t *testing.T) {
	t.Parallel()
	steps := []struct {
		what string
		do   func(l *latencies)
		want time.Duration
	}{
		{"with 20 samples of 10ms", func(l *latencies) { addEach(l, 1, slices.Repeat([]time.Duration{10 * msec}, 20)...) }, 10 * msec},
		{"with 7 more of 1s", func(l *latencies) { addEach(l, 1, slices.Repeat([]time.Duration{time.Second}, 7)...) }, 10 * msec},
		{"with the eighth", func(l *latencies) { addEach(l, 1, time.Second) }, time.Second},
		{"with 7 more of 2s", func(l *latencies) { addEach(l, 1, slices.Repeat([]time.Duration{2 * time.Second}, 7)...) }, time.Second},
		{"shortly after", func(*latencies) { <-time.After(time.Second - 1) }, time.Second},
		{"1s after it was worked out", func(*latencies) { <-time.After(1) }, 2 * time.Second},
		{"when most are too old", func(l *latencies) { <-time.After(58 * time.Second); addEach(l, 1, 5*msec); <-time.After(time.Second) }, 2 * time.Second},
		{"when all but one are too old", func(*latencies) { <-time.After(1) }, 0},
	}
	synctest.Test(t, func(t *testing.T) {
		var l latencies
		for _, step := range steps {
			step.do(&l)
			got, ok := l.percentile95(1)
			wantLatency(t, step.what, got, ok, step.want)
		}
	})
}

func TestFastest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		add  func(l *latencies)
		want time.Duration // 0 for none
	}{
		"nothing is known at first":   {func(*latencies) {}, 0},
		"7 samples are too few":       {func(l *latencies) { addEach(l, 1, rising(7)...) }, 0},
		"the shortest of 8":           {func(l *latencies) { addEach(l, 1, 8*msec, 7*msec, 6*msec, 2*msec, 5*msec, 9*msec, 3*msec, 4*msec) }, 2 * msec},
		"other sizes do not count":    {func(l *latencies) { addEach(l, 1, rising(7)...); addEach(l, 2, rising(8)...) }, 0},
		"samples count for 5s":        {func(l *latencies) { addEach(l, 1, rising(8)...); <-time.After(5 * time.Second) }, msec},
		"samples do not count longer": {func(l *latencies) { addEach(l, 1, rising(100)...); <-time.After(5*time.Second + 1) }, 0},
		"older samples leave too few": {func(l *latencies) { l.add(1, msec, 0); <-time.After(5*time.Second + 1); addEach(l, 1, rising(7)...) }, 0},
		"a shorter one that is older": {func(l *latencies) {
			l.add(1, msec, 0)
			<-time.After(5*time.Second + lowWidth)
			addEach(l, 1, slices.Repeat([]time.Duration{7 * msec}, 8)...)
		}, 7 * msec},
		"a shorter one before many others": {func(l *latencies) {
			l.add(1, msec, 0)
			<-time.After(5 * time.Second)
			addEach(l, 1, slices.Repeat([]time.Duration{7 * msec}, 1000)...)
		}, msec},
		"a slow episode ends by itself": {func(l *latencies) {
			addEach(l, 1, slices.Repeat([]time.Duration{time.Minute}, 1000)...)
			<-time.After(5*time.Second + 1)
		}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l latencies
				test.add(&l)
				got, ok := l.fastest(1, 0)
				wantLatency(t, "the fastest", got, ok, test.want)
			})
		})
	}
}

// TestFastestIsThatOfTheLastSeconds compares with a look at all samples.
func TestFastestIsThatOfTheLastSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var l latencies
		var all []latencySample
		start := time.Now()
		// shortest looks at the samples of so long.
		shortest := func(within time.Duration) (n int, least time.Duration) {
			for _, s := range all {
				if time.Since(start)-s.at <= within {
					if n++; n == 1 || s.took < least {
						least = s.took
					}
				}
			}
			return n, least
		}
		known := 0
		for range 3000 {
			took := time.Duration(1 + random.IntN(1_000_000))
			all = append(all, latencySample{at: time.Since(start), took: took})
			l.add(1, took, 0)
			<-time.After(time.Duration(random.ExpFloat64() * float64(400*msec)))
			n, most := shortest(fastestMemory)
			_, least := shortest(fastestMemory + lowWidth)
			got, ok := l.fastest(1, 0)
			if ok != (n >= minFastestSamples) || ok && (got < least || got > most) {
				t.Fatalf("the fastest of %d samples is %v, %v, want %v to %v", n, got, ok, least, most)
			}
			if ok {
				known++
			}
		}
		if known < 300 || known > 2900 {
			t.Errorf("the fastest is known %d of 3000 times, which shows little", known)
		}
	})
}

func TestLatenciesUnderConcurrency(t *testing.T) {
	t.Parallel()
	var l latencies
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			for n := range 500 {
				items := 1 << (n % 4)
				l.add(items, time.Duration(items)*time.Second+time.Duration(i), 0)
				if got, ok := l.percentile95(items); ok && got.Truncate(time.Second) != time.Duration(items)*time.Second {
					t.Errorf("the percentile of %d items is %v", items, got)
				}
				if got, ok := l.fastest(items, 0); ok && got.Truncate(time.Second) != time.Duration(items)*time.Second {
					t.Errorf("the fastest of %d items is %v", items, got)
				}
			}
		})
	}
	all.Wait()
	for _, items := range []int{1, 2, 4, 8} {
		if got := l.classes[latencyClassOf(items)].Load().added; got != 100*125 {
			t.Errorf("%d samples of %d items were added, want %d", got, items, 100*125)
		}
	}
}

func TestLatenciesAllocateOnce(t *testing.T) {
	var l latencies
	l.percentile95(1)
	if l.classes[0].Load() != nil {
		t.Error("asking makes a ring")
	}
	l.add(1, msec, 0)
	if n := testing.AllocsPerRun(1000, func() {
		l.add(1, msec, 0)
		l.percentile95(1)
		l.fastest(1, 0)
	}); n != 0 {
		t.Errorf("adding and asking allocates %v times", n)
	}
}

func BenchmarkLatencies(b *testing.B) {
	var l latencies
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.add(32, time.Duration(i*7919%1009)*msec, 0)
		l.percentile95(32)
	}
}

func BenchmarkLatenciesParallel(b *testing.B) {
	var l latencies
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			l.add(32, time.Duration(i*7919%1009)*msec, 0)
			l.percentile95(32)
		}
	})
}

func BenchmarkFastest(b *testing.B) {
	var l latencies
	addEach(&l, 32, rising(100)...)
	b.ReportAllocs()
	for b.Loop() {
		l.fastest(32, 0)
	}
}
