// Package trail keeps the audit log in a directory in a form in which every
// later change shows: a record that was altered, removed, inserted, moved or
// cut off.
//
// The directory:
//
//	segment-00000001.jsonl   segments, numbered without gaps
//	segment-00000002.jsonl
//	checkpoint               the last checkpoint that is on the disk: a signed note
//	public-key               the key that checkpoints are signed with, for whoever verifies
//	signing-key              its private half, sealed under the root key
//
// A segment is a file of entries, each a line of JSON with two members behind
// its own:
//
//	{"eventVersion":"1.11",…,"sequence":1234,"hash":"mL5j…w0="}
//	└──────────── what is hashed ───────────┘        └ 44 characters ┘
//
//	hash = SHA-256(hash of the entry before ‖ the line up to `,"hash":`)
//
// in standard base64. Sequence numbers begin at 1 and have no gaps, through all
// segments; the hash before entry 1 is 32 zero bytes. An entry is a record of
// package audit or one of three that the trail makes itself, known by the
// first member:
//
//	{"segment":{…}}      the first of each segment: format, trail, number, the last entry
//	                     of the segment before, and what of the past cannot be read
//	{"checkpoint":"…"}   a signed note about the entry before it; "end":true in the last
//	                     entry of a segment
//	{"retention":{…}}    segments that are about to be removed, since they are old
//
// A checkpoint is a signed note (C2SP signed-note, Ed25519) with the lines
//
//	kastellan.dev/audit/<trail>
//	<sequence>
//	<hash>
//	<time, RFC 3339>
//
// in the form of a transparency log's checkpoint, with the head of the chain in
// the place of a tree's root. There is one right after the head of a segment,
// one after so many records, one after so much time in which there was a
// record, and one at the end of a segment: also when the process ends.
//
// Who can write the files but has not the key can make up what comes behind
// the last checkpoint, and can cut the log there or at any entry behind an older
// checkpoint: then the log is shorter, but what is left is true. A checkpoint
// that is kept elsewhere shows the cut: that is what [VerifyOptions.Checkpoints]
// is for.
//
// A process writes segments of its own: the first thing it does is to begin
// one. What a process that was killed left unfinished, at most a part of a
// line, stays where it is; the head of the next segment says where it begins
// and what it hashes to. The package never changes or shortens what it finds.
// It refuses a directory that another process writes to, and a signing key that
// is sealed under another root key.
package trail
