package trail

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// format is the version of what is written here.
const format = 1

// segmentEntry is the head of a segment.
type segmentEntry struct {
	Segment  segment `json:"segment"`
	Sequence uint64  `json:"sequence,omitempty"` // set when read
}

type segment struct {
	Format int       `json:"format"`
	Trail  string    `json:"trail"` // 32 hexadecimal digits, the same in all segments
	Number uint64    `json:"number"`
	Began  time.Time `json:"began"`
	Key    string    `json:"key"` // a verifier key: whose checkpoints follow
	// CheckpointRecords is after how many records there is a checkpoint at the latest.
	CheckpointRecords int       `json:"checkpointRecords"`
	Previous          *previous `json:"previous,omitempty"` // nil: the trail begins here
	Unread            []unread  `json:"unread,omitempty"`
	// LostCheckpoint is one of an entry that the log did not hold any more.
	LostCheckpoint string `json:"lostCheckpoint,omitempty"`
}

// previous is the last entry before a segment.
type previous struct {
	Segment string `json:"segment"`
	position
}

// unread is the end of a segment that was found not to consist of entries.
type unread struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Bytes   int64  `json:"bytes"`
	SHA256  digest `json:"sha256"`
	Lines   int    `json:"lines"` // line feeds: 0 for what a process leaves that is killed while it writes
}

// checkpointEntry holds a signed note.
type checkpointEntry struct {
	Checkpoint string `json:"checkpoint"`
	End        bool   `json:"end,omitempty"` // nothing follows in this segment
	Sequence   uint64 `json:"sequence,omitempty"`
}

// retentionEntry says which segments are removed from now on.
type retentionEntry struct {
	Retention retention `json:"retention"`
	Sequence  uint64    `json:"sequence,omitempty"`
}

type retention struct {
	Removed []string  `json:"removed"`
	Through previous  `json:"through"` // the last entry that is removed
	Time    time.Time `json:"time"`
}

// object encodes one of the above. None can fail.
func object(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("trail: " + err.Error())
	}
	return b
}

const (
	segmentPrefix  = "segment-"
	segmentSuffix  = ".jsonl"
	checkpointFile = "checkpoint"
	publicKeyFile  = "public-key"
	signingKeyFile = "signing-key"
)

func segmentName(number uint64) string {
	return fmt.Sprintf("%s%08d%s", segmentPrefix, number, segmentSuffix)
}

// segmentNumber gives the number of a segment's file; ok is false for other files.
func segmentNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(name, segmentSuffix), segmentPrefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number > 0 && segmentName(number) == filepath.Base(name)
}
