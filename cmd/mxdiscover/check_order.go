package main

import (
	"iter"

	"golang.org/x/sync/errgroup"
)

// inOrder does each item and hands the results to print in the order of the
// items, as they come. At most workers items are under way, and no more results
// wait to be printed. Once stop says so, no item is begun.
func inOrder[A, B any](items iter.Seq[A], workers int, stop func() bool, do func(A) B, print func(B)) {
	var (
		pending = make(chan chan B, workers-1)
		group   errgroup.Group
	)
	group.Go(func() error {
		for result := range pending {
			print(<-result)
		}
		return nil
	})
	for item := range items {
		if stop() {
			break
		}
		result := make(chan B, 1)
		pending <- result // waits while workers items are under way
		group.Go(func() error {
			result <- do(item)
			return nil
		})
	}
	close(pending)
	group.Wait()
}
