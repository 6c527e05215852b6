package trail_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/trail"
)

// BenchmarkWrite is the cost of a record in a plain file, the floor, and in a trail.
func BenchmarkWrite(b *testing.B) {
	record := &audit.Record{
		EventVersion: "1.11", EventTime: time.Unix(1, 2).UTC(), EventSource: "kms.amazonaws.com", EventName: "Encrypt", AWSRegion: "eu-central-1",
		UserIdentity:    audit.UserIdentity{Type: "IAMUser", PrincipalID: "AIDAEXAMPLE", ARN: "arn:aws:iam::111122223333:user/ops/alice", AccountID: "111122223333", AccessKeyID: "AKIAALICEEXAMPLE0001", UserName: "alice"},
		SourceIPAddress: "10.0.0.1", UserAgent: "aws-sdk-go-v2/1.47.8 os/linux lang/go#1.26 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.4",
		RequestParameters:   []byte(`{"keyId":"alias/payments","encryptionAlgorithm":"SYMMETRIC_DEFAULT"}`),
		AdditionalEventData: audit.Data{"keyMaterialId": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		RequestID:           "01234567-89ab-4cde-8f01-23456789abcd", EventID: "01234567-89ab-4cde-8f01-23456789abce", ReadOnly: true,
		Resources: []audit.Resource{{AccountID: "111122223333", Type: "AWS::KMS::Key", ARN: "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-4cde-8f01-23456789abcf"}},
		EventType: audit.APICall, ManagementEvent: true, EventCategory: "Management", RecipientAccountID: "111122223333",
	}
	for _, sink := range []struct {
		name string
		open func(b *testing.B) audit.Sink
	}{
		{"floor: plain file", func(b *testing.B) audit.Sink {
			lines, err := audit.OpenLines(filepath.Join(b.TempDir(), "audit.jsonl"), false)
			if err != nil {
				b.Fatal(err)
			}
			return lines
		}},
		{"trail", func(b *testing.B) audit.Sink { return openBench(b, false) }},
		{"trail with sync", func(b *testing.B) audit.Sink { return openBench(b, true) }},
	} {
		for name, parallel := range map[string]int{"one caller": 0, "64 callers": 32} {
			b.Run(sink.name+"/"+name, func(b *testing.B) {
				log := audit.NewLog(sink.open(b))
				defer log.Close()
				b.ReportAllocs()
				if parallel == 0 {
					for b.Loop() {
						if err := log.Write(b.Context(), record); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.SetParallelism(parallel)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := log.Write(b.Context(), record); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

func openBench(b *testing.B, sync bool) audit.Sink {
	dir := b.TempDir()
	key, err := trail.LoadOrMakeKey(dir, sealer("root"))
	if err != nil {
		b.Fatal(err)
	}
	l, err := trail.Open(trail.Config{Directory: dir, Key: key, Sync: sync, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	return l
}
