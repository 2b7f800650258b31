"""Release manifests read and signed with other people's tools: securesystemslib (DSSE) and in-toto-attestation.

Needs `pip install securesystemslib[crypto] in-toto-attestation`; without them its tests are skipped.
"""

import hashlib
import json
import pathlib
import unittest

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import CryptoSigner, SSlibKey

    MISSING = None
except ImportError as error:
    MISSING = str(error)

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "shared/evidence/src/release/samples"


@unittest.skipIf(MISSING, MISSING)
class ReleaseManifest(unittest.TestCase):
    def setUp(self):
        self.key_set = json.loads((SAMPLES / "keys-v1.json").read_text())
        self.keys = [
            SSlibKey(key["key_id"], "ed25519", "ed25519", {"public": key["public_key"]})
            for key in self.key_set["keys"]
        ]
        self.envelope = Envelope.from_dict(json.loads((SAMPLES / "manifest-v1.json").read_text()))

    def test_both_signatures_verify(self):
        accepted = self.envelope.verify(self.keys, self.key_set["threshold"])
        self.assertEqual(len(accepted), 2)

    def test_what_was_changed_is_refused(self):
        with self.assertRaises(VerificationError):
            self.envelope.verify(self.keys[2:], 1)
        payload = self.envelope.payload
        self.envelope.payload = payload.replace(b'"number":2', b'"number":9')
        self.assertNotEqual(self.envelope.payload, payload)
        with self.assertRaises(VerificationError):
            self.envelope.verify(self.keys, 2)
        self.envelope.payload = payload
        self.envelope.payload_type += "x"
        with self.assertRaises(VerificationError):
            self.envelope.verify(self.keys, 2)

    def test_the_statement_is_one(self):
        payload = self.envelope.payload
        Statement.copy_from_pb(json_format.Parse(payload, StatementPb())).validate()
        broken = json.loads(payload)
        broken["_type"] += "x"
        with self.assertRaises(ValueError):
            Statement.copy_from_pb(json_format.ParseDict(broken, StatementPb())).validate()

    def test_the_same_keys_sign_the_same(self):
        """Ed25519 is deterministic, so signatures and key ids can be compared."""
        again = Envelope(self.envelope.payload, self.envelope.payload_type, {})
        for seed in (1, 2):
            private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
            spki = private.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            keyid = hashlib.sha256(spki).hexdigest()
            public = next(key for key in self.keys if key.keyid == keyid)
            again.sign(CryptoSigner(private, public))
        made = {keyid: one.signature for keyid, one in again.signatures.items()}
        found = {keyid: one.signature for keyid, one in self.envelope.signatures.items()}
        self.assertEqual(made, found)


if __name__ == "__main__":
    unittest.main()
