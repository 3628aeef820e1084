package rig

import (
	"cmp"
	"math"
	"slices"
)

// Percentile returns the smallest of the values that at least the fraction p of
// them do not exceed, p from above 0 to 1. It is the zero value when there are
// no values.
func Percentile[T cmp.Ordered](values []T, p float64) (percentile T) {
	if len(values) == 0 {
		return percentile
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted), max(1, int(math.Ceil(p*float64(len(sorted))))))-1]
}

// Mean returns the mean of the values, 0 when there are none.
func Mean[T ~int | ~int64 | ~float64](values []T) T {
	var sum T
	for _, v := range values {
		sum += v
	}
	return sum / T(max(1, len(values)))
}
