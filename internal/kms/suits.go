package kms

import "kastellan.dev/internal/kmsapi"

// condition tells whether an operation is one for a key of that kind.
type condition func(c *call, k *keyEntry) error

// all is several conditions, in their order.
func all(conditions ...condition) condition {
	return func(c *call, k *keyEntry) error {
		for _, suits := range conditions {
			if err := suits(c, k); err != nil {
				return err
			}
		}
		return nil
	}
}

// usage admits keys of one usage.
func usage(wanted kmsapi.KeyUsageType) condition {
	return func(c *call, k *keyEntry) error {
		if k.Usage != wanted {
			return unusable(c, k)
		}
		return nil
	}
}

func unusable(c *call, k *keyEntry) error {
	return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "%s key usage is %s which is not valid for %s.", k.ARN, k.Usage, c.op.Name)
}

// decrypts admits keys that a ciphertext can be made with. That one was not is the
// ciphertext's fault rather than the key's.
func decrypts(_ *call, k *keyEntry) error {
	if k.Usage != kmsapi.EncryptDecrypt {
		return incorrectKey()
	}
	return nil
}

func incorrectKey() error {
	return kmsapi.Errorf(kmsapi.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
}

// symmetric admits symmetric encryption keys, under which data keys are encrypted.
func symmetric(c *call, k *keyEntry) error {
	if !k.spec.Symmetric() {
		return unusable(c, k)
	}
	return nil
}

// asymmetric admits keys with a public half.
func asymmetric(_ *call, k *keyEntry) error {
	if !k.spec.Asymmetric() {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is not an asymmetric KMS key.", k.ARN)
	}
	return nil
}

// outsideStores admits keys that are not in a custom key store.
func outsideStores(_ *call, k *keyEntry) error {
	if k.StoreID != "" {
		return wrongOrigin(k)
	}
	return nil
}

func wrongOrigin(k *keyEntry) error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s origin is %s which is not valid for this operation.", k.ARN, k.Origin)
}

// rotates admits symmetric encryption keys outside custom key stores.
func rotates(c *call, k *keyEntry) error {
	if !k.spec.Symmetric() {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "")
	}
	return outsideStores(c, k)
}

// generated admits keys whose material KMS makes.
func generated(_ *call, k *keyEntry) error {
	if k.Origin != kmsapi.OriginAWSKMS {
		return wrongOrigin(k)
	}
	return nil
}

// imports admits keys whose material is imported.
func imports(_ *call, k *keyEntry) error {
	if k.Origin != kmsapi.OriginExternal {
		return wrongOrigin(k)
	}
	return nil
}

// leads admits single-Region keys and primary keys: replicas follow them.
func leads(_ *call, k *keyEntry) error {
	if k.MultiRegion != nil && !k.primary() {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is a multi-Region replica key. The operation is valid for its primary key in %s.", k.ARN, k.MultiRegion.Primary)
	}
	return nil
}

// isPrimary admits multi-Region primary keys.
func isPrimary(_ *call, k *keyEntry) error {
	if !k.primary() {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s is not a multi-region primary key.", k.ARN)
	}
	return nil
}
