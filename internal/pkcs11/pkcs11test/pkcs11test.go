// Package pkcs11test gives tests real SoftHSM2 tokens, each in a directory of
// its own, and a PKCS#11 module that stands before SoftHSM2 and fails as told.
// It is for tests only, and refuses to pretend: without SoftHSM2 tests are skipped,
// or fail where KASTELLAN_REQUIRE_SOFTHSM=1 says that it must be there.
//
//	func TestMain(m *testing.M) { pkcs11.WorkerMain(); os.Exit(m.Run()) }
//
//	faults := pkcs11test.NewFaults(t)
//	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
//	token, err := pkcs11.Open(ctx, ref.Config(), log)
//	faults.Set(t, "C_Login rv=0xA4", "C_Encrypt hang count=1")
package pkcs11test
