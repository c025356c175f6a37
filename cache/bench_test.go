package cache_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const benchKeys = 1024

// filled is a cache with benchKeys fresh answers.
func filled(b *testing.B) (*stringCache, []string) {
	s := &source{answer: good("v", time.Hour)}
	c := &stringCache{Load: s.load}
	keys := make([]string, benchKeys)
	for i := range keys {
		keys[i] = "server" + strconv.Itoa(i) + ".example.org"
		if _, _, err := c.Get(b.Context(), keys[i]); err != nil {
			b.Fatal(err)
		}
	}
	return c, keys
}

// bare is the least that a cache with a lock can do.
type bare struct {
	mu  sync.Mutex
	lru *simplelru.LRU[string, *entry]
}

func (c *bare) get(key string) (*entry, bool) {
	c.mu.Lock()
	e, ok := c.lru.Get(key)
	c.mu.Unlock()
	return e, ok
}

func filledBare(b *testing.B) (*bare, []string) {
	c, keys := filled(b)
	lru, err := simplelru.NewLRU[string, *entry](10000, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, key := range keys {
		e, _ := c.Peek(key)
		lru.Add(key, e)
	}
	return &bare{lru: lru}, keys
}

func BenchmarkGetHit(b *testing.B) {
	c, keys := filled(b)
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, hit, _ := c.Get(ctx, keys[i%benchKeys]); !hit {
			b.Fatal("miss")
		}
		i++
	}
}

func BenchmarkGetHitParallel(b *testing.B) {
	c, keys := filled(b)
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, hit, _ := c.Get(ctx, keys[i%benchKeys]); !hit {
				b.Error("miss")
				return
			}
		}
	})
}

func BenchmarkBareLRU(b *testing.B) {
	c, keys := filledBare(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, hit := c.get(keys[i%benchKeys]); !hit {
			b.Fatal("miss")
		}
		i++
	}
}

func BenchmarkBareLRUParallel(b *testing.B) {
	c, keys := filledBare(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, hit := c.get(keys[i%benchKeys]); !hit {
				b.Error("miss")
				return
			}
		}
	})
}

// A load that ends at once: what the flight and its goroutine cost.
func BenchmarkGetMiss(b *testing.B) {
	s := &source{answer: good("v", 0)}
	c := &stringCache{Load: func(_ context.Context, _ string, _ prior) loaded { return s.answer }}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, hit, _ := c.Get(ctx, "k"); hit {
			b.Fatal("hit")
		}
	}
}
