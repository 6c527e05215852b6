// What programs in JavaScript do with AWS KMS: the SDK by itself, and the AWS
// Encryption SDK on top of it. It fails by throwing.
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { buildClient, CommitmentPolicy, KmsKeyringNode } from "@aws-crypto/client-node";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DisableKeyCommand,
  EncryptCommand,
  GenerateDataKeyPairCommand,
  GenerateMacCommand,
  GetPublicKeyCommand,
  KMS,
  ListAliasesCommand,
  SignCommand,
  VerifyMacCommand,
} from "@aws-sdk/client-kms";

const client = new KMS({ endpoint: process.env.AWS_ENDPOINT_URL, maxAttempts: 1 });
const text = (s) => Buffer.from(s);

async function key(input = {}) {
  const { KeyMetadata } = await client.send(new CreateKeyCommand(input));
  return KeyMetadata.Arn;
}

async function theSDK() {
  const id = await key({ Description: "für Ελλάδα 🔑" });
  await client.send(new CreateAliasCommand({ AliasName: "alias/js", TargetKeyId: id }));
  const { Aliases } = await client.send(new ListAliasesCommand({ KeyId: id }));
  assert.equal(Aliases[0].AliasName, "alias/js");
  const context = { tenant: "blue" };
  const sealed = await client.send(new EncryptCommand({ KeyId: "alias/js", Plaintext: text("js"), EncryptionContext: context }));
  const opened = await client.send(new DecryptCommand({ CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context }));
  assert.equal(Buffer.from(opened.Plaintext).toString(), "js");
  assert.equal(opened.KeyId, id);
  await assert.rejects(client.send(new DecryptCommand({ CiphertextBlob: sealed.CiphertextBlob })), { name: "InvalidCiphertextException" });
  await client.send(new DisableKeyCommand({ KeyId: id }));
  await assert.rejects(client.send(new EncryptCommand({ KeyId: id, Plaintext: text("js") })), {
    name: "DisabledException",
    message: `${id} is disabled.`,
  });
}

async function nodeVerifies() {
  for (const [KeySpec, SigningAlgorithm, options] of [
    ["ECC_NIST_P256", "ECDSA_SHA_256", {}],
    ["RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256", {}],
    ["ECC_NIST_EDWARDS25519", "ED25519_SHA_512", { digest: null }],
  ]) {
    const KeyId = await key({ KeySpec, KeyUsage: "SIGN_VERIFY" });
    const { Signature } = await client.send(new SignCommand({ KeyId, SigningAlgorithm, MessageType: "RAW", Message: text("message") }));
    const { PublicKey } = await client.send(new GetPublicKeyCommand({ KeyId }));
    const publicKey = createPublicKey({ key: Buffer.from(PublicKey), format: "der", type: "spki" });
    const digest = options.digest === null ? null : "sha256";
    assert.ok(verify(digest, text("message"), publicKey, Buffer.from(Signature)), KeySpec);
    assert.ok(!verify(digest, text("another"), publicKey, Buffer.from(Signature)), KeySpec);
  }
  const KeyId = await key({ KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC" });
  const mac = { KeyId, MacAlgorithm: "HMAC_SHA_256", Message: text("message") };
  const { Mac } = await client.send(new GenerateMacCommand(mac));
  assert.ok((await client.send(new VerifyMacCommand({ ...mac, Mac }))).MacValid);
  const pair = await client.send(new GenerateDataKeyPairCommand({ KeyId: await key(), KeyPairSpec: "ECC_NIST_P384" }));
  createPublicKey({ key: Buffer.from(pair.PublicKey), format: "der", type: "spki" });
}

async function theEncryptionSDK() {
  const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
  const clientProvider = () => client;
  const [generatorKeyId, other] = [await key(), await key()];
  const keyring = new KmsKeyringNode({ clientProvider, generatorKeyId, keyIds: [other] });
  const encryptionContext = { stage: "test" };
  const { result } = await encrypt(keyring, "a long message ".repeat(1000), { encryptionContext });
  for (const id of [generatorKeyId, other]) { // each of the two opens it
    const { plaintext, messageHeader } = await decrypt(new KmsKeyringNode({ clientProvider, keyIds: [id] }), result);
    assert.equal(plaintext.toString(), "a long message ".repeat(1000));
    assert.equal(messageHeader.encryptionContext.stage, "test");
  }
  await assert.rejects(decrypt(new KmsKeyringNode({ clientProvider, keyIds: [await key()] }), result));
}

await theSDK();
await nodeVerifies();
await theEncryptionSDK();
console.log("all of it works");
