package main

import (
	"testing"

	"github.com/mmrelay/mmrelay/internal/scripttest"
)

func TestMain(m *testing.M) { scripttest.Main(m) }

func TestScripts(t *testing.T) { scripttest.Run(t, "testdata") }
