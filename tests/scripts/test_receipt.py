"""A receipt read with other people's tools: securesystemslib (DSSE), in-toto-attestation, and hashes of Python's own.

Needs `pip install securesystemslib[crypto] in-toto-attestation`; without them its tests are skipped.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import unittest

try:
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    MISSING = None
except ImportError as error:
    MISSING = str(error)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "shared/receipt/tests/samples/receipt-v1.json"
# Of a quote of version 4.
MRCONFIGID, REPORT_DATA = slice(232, 280), slice(568, 632)
# Of the scene in shared/receipt/tests/scene.
COMMITMENT_KEY, DATASET, RESULT = b"\x77" * 32, b"sha256:00:1", b"the ciphertext of a result"


def tagged(tag, data):
    return tag.encode() + b"\0" + data


@unittest.skipIf(MISSING, MISSING)
class Receipt(unittest.TestCase):
    def setUp(self):
        self.package = json.loads(SAMPLE.read_text())
        self.envelope = Envelope.from_dict(self.package["statement"])
        self.claims = {
            part: json.loads(base64.b64decode(bundle["claims"]))
            for part, bundle in self.package["evidence"].items()
        }
        public = self.claims["receipt"]["receipt_key"]
        self.key = SSlibKey(public, "ed25519", "ed25519", {"public": public})

    def test_the_receipt_key_signed_it(self):
        self.assertEqual(len(self.envelope.verify([self.key], 1)), 1)
        self.assertEqual(self.envelope.payload_type, "application/vnd.in-toto+json")

    def test_what_was_changed_is_refused(self):
        payload = self.envelope.payload
        for changed in (payload.replace(b'"attempt":1', b'"attempt":2'), payload + b" "):
            self.assertNotEqual(changed, payload)
            self.envelope.payload = changed
            with self.assertRaises(VerificationError):
                self.envelope.verify([self.key], 1)
        self.envelope.payload = payload
        other = "11" * 32
        with self.assertRaises(VerificationError):
            self.envelope.verify([SSlibKey(other, "ed25519", "ed25519", {"public": other})], 1)

    def test_the_statement_is_one(self):
        Statement.copy_from_pb(
            json_format.Parse(self.envelope.payload, StatementPb())
        ).validate()
        statement = json.loads(self.envelope.payload)
        self.assertEqual(statement["_type"], "https://in-toto.io/Statement/v1")
        self.assertEqual(statement["predicateType"], "urn:sealtune:receipt:v1")
        digest = statement["subject"][0]["digest"]["sha256"]
        self.assertEqual(digest, hashlib.sha256(RESULT).hexdigest())

    def test_a_commitment_opens(self):
        committed = json.loads(self.envelope.payload)["predicate"]["commitments"]["dataset"]
        opening = hmac.digest(COMMITMENT_KEY, tagged("sealtune/commitment/v1", b"dataset"), "sha256")
        self.assertEqual(hmac.digest(opening, DATASET, "sha256").hex(), committed)

    def test_quotes_claims_and_statement_name_each_other(self):
        """The digests of the chain, computed again from what is written down about them."""
        evidence = self.package["evidence"]
        name = {}
        for part, bundle in evidence.items():
            quote, claims, launch = (
                base64.b64decode(bundle[field]) for field in ("quote", "claims", "launch")
            )
            covered = hashlib.sha512(tagged("sealtune/report-data/v1", claims)).digest()
            self.assertEqual(quote[REPORT_DATA], covered, part)
            digest = hashlib.sha256(tagged("sealtune/launch/v1", launch)).digest()
            self.assertEqual(quote[MRCONFIGID], b"S" + digest + bytes(15), part)
            self.assertEqual(self.claims[part]["launch"], digest.hex(), part)
            name[part] = hashlib.sha256(tagged("sealtune/evidence/v1", quote)).hexdigest()
        self.assertEqual(self.claims["start"]["previous"], name["offer"])
        self.assertEqual(self.claims["receipt"]["previous"], name["start"])
        payload = hashlib.sha256(self.envelope.payload).hexdigest()
        self.assertEqual(self.claims["receipt"]["payload"], payload)
        self.assertEqual(json.loads(self.envelope.payload)["predicate"]["previous"], name["start"])


if __name__ == "__main__":
    unittest.main()
