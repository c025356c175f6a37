package cache_test

import (
	"context"
	"fmt"
	"time"

	"mxdiscover/cache"
)

func ExampleCache() {
	var lengths cache.Cache[string, int]
	lengths.Load = func(_ context.Context, key string, _ cache.Prior[int]) cache.Loaded[int] {
		fmt.Println("asking for", key)
		return cache.Loaded[int]{Value: len(key), Lifetime: time.Hour}
	}
	for range 2 {
		e, hit, err := lengths.Get(context.Background(), "example.org")
		if err != nil {
			fmt.Println(err) // the context ended, or Load panicked
			return
		}
		fmt.Println(e.Value(), hit)
	}
	// Output:
	// asking for example.org
	// 11 false
	// 11 true
}

// A loader that leaves a failing source alone for a minute, then for two, four, and at most sixty.
func ExampleLoader() {
	silent := func(_ context.Context, _ string, prior cache.Prior[string]) cache.Loaded[string] {
		pause := min(time.Minute<<min(prior.Failures, 6), time.Hour)
		return cache.Loaded[string]{Value: "no answer", Status: cache.Temporary, Lifetime: pause}
	}
	c := cache.Cache[string, string]{Load: silent}
	for range 8 {
		// Refresh, as the example cannot wait until the failure has expired.
		e, err := c.Refresh(context.Background(), "example.org")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Failures(), e.Expires().Sub(e.LoadedAt()))
	}
	// Output:
	// 1 1m0s
	// 2 2m0s
	// 3 4m0s
	// 4 8m0s
	// 5 16m0s
	// 6 32m0s
	// 7 1h0m0s
	// 8 1h0m0s
}

// The source has become silent. What is still fresh stays, and says what went wrong.
func ExampleCache_Refresh() {
	up := true
	c := cache.Cache[string, string]{
		Load: func(context.Context, string, cache.Prior[string]) cache.Loaded[string] {
			if !up {
				return cache.Loaded[string]{Value: "connection refused", Status: cache.Temporary, Lifetime: time.Minute}
			}
			return cache.Loaded[string]{Value: "192.0.2.1", Lifetime: time.Hour}
		},
	}
	ctx := context.Background()
	before, _ := c.Refresh(ctx, "example.org")
	up = false
	after, _ := c.Refresh(ctx, "example.org")
	why, _ := after.Failure()
	fmt.Println(before.Current(), after.Value(), after.Failures(), why)
	// Output: false 192.0.2.1 1 connection refused
}
