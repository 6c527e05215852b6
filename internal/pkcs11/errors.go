package pkcs11

import "errors"

// IsAuthentication tells that a decryption failed because the ciphertext, its
// tag, IV or additional data are not what was encrypted under the key.
func IsAuthentication(err error) bool {
	e, ok := decryptError(err)
	if !ok {
		return false
	}
	switch e.RV {
	case CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_AEAD_DECRYPT_FAILED, CKR_SIGNATURE_INVALID:
		return true
	}
	return false
}

// MaybeAuthentication tells what IsAuthentication tells, and also the
// CKR_GENERAL_ERROR or CKR_FUNCTION_FAILED of a C_Decrypt: SoftHSM2 and others answer so to a wrong
// tag, but a broken device may too. A caller that must know decrypts something
// that it encrypted itself.
func MaybeAuthentication(err error) bool {
	e, ok := decryptError(err)
	return ok && (IsAuthentication(err) || e.RV == CKR_GENERAL_ERROR || e.RV == CKR_FUNCTION_FAILED)
}

// decryptError gives the error of C_Decrypt within err.
func decryptError(err error) (*Error, bool) {
	var e *Error
	if !errors.As(err, &e) || e.Function != "C_Decrypt" {
		return nil, false
	}
	return e, true
}
