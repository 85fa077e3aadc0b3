"""HL7 FHIR R4 events of an interoperability platform: who is insured, what is covered, what is authorised beforehand.

An event is a pure function of (seed, patient, sequence): whoever knows the seed can make any of them again, in any
order. Which patient's turn it is follows from the seed alone (`plan`).
"""

import base64
import datetime
import hashlib
import json
import random
from typing import Dict, Iterator, NamedTuple, Tuple

SIZE_MIN = 512
SIZE_MAX = 2 * 1024 * 1024

FAMILY = "Almeida Brandt Castillo Dubois Eriksson Fontaine Gruber Haddad Ito Jansen Kowalski Larsen Moreau Novak".split()
GIVEN = "Ada Bruno Chidi Dana Elif Farid Greta Hugo Ines Jonas Keiko Liam Mara Nils Oksana Pavel".split()
CITIES = [("Boston", "MA", "02118"), ("Columbus", "OH", "43210"), ("Tucson", "AZ", "85719"), ("Madison", "WI", "53703")]
PAYERS = [("payer-1", "Harbor Health Plan"), ("payer-2", "Prairie Mutual"), ("payer-3", "Summit Care Alliance")]
# (CPT code, display, ICD-10 code, display)
SERVICES = [
    ("70551", "MRI brain without contrast", "G43.909", "Migraine, unspecified"),
    ("27447", "Total knee arthroplasty", "M17.11", "Unilateral primary osteoarthritis, right knee"),
    ("95810", "Polysomnography", "G47.33", "Obstructive sleep apnea"),
    ("93306", "Echocardiography, complete", "I50.9", "Heart failure, unspecified"),
    ("64483", "Transforaminal epidural injection, lumbar", "M54.16", "Radiculopathy, lumbar region"),
]
START = datetime.datetime(2026, 1, 5, 8, 0, tzinfo=datetime.timezone.utc)


class Event(NamedTuple):
    """One event, ready to be sent."""

    patient: str
    seq: int
    kind: str
    body: bytes
    sha256: str


def patient_id(number: int) -> str:
    """The id of a patient, which is the key of its events."""
    return f"patient-{number:07d}"


def plan(seed: int, patients: int, events: int) -> Iterator[Tuple[int, int]]:
    """The stream's order: (patient number, its sequence number), event by event."""
    rng = random.Random(f"plan/{seed}/{patients}")
    seqs = [0] * patients
    for _ in range(events):
        number = rng.randrange(patients)
        yield number, seqs[number]
        seqs[number] += 1


def expected(seed: int, patients: int, events: int) -> Dict[str, int]:
    """How many events each patient has in the end."""
    counts: Dict[str, int] = {}
    for number, seq in plan(seed, patients, events):
        counts[patient_id(number)] = seq + 1
    return counts


def event(seed: int, number: int, seq: int) -> Event:
    """The event of a patient with this sequence number."""
    rng = random.Random(f"event/{seed}/{number}/{seq}")
    patient = patient_id(number)
    # registration, insurance, then rounds of eligibility and prior authorisation, with an address change now and then
    if seq == 0 or (seq > 5 and rng.random() < 0.05):
        resource = _patient(random.Random(f"person/{seed}/{number}"), rng, patient, seq)
    elif seq == 1:
        resource = _coverage(rng, patient)
    else:
        step = (seq - 2) % 4
        visit = f"{patient}-{(seq - 2) // 4:05d}"
        resource = (_eligibility_request, _eligibility_response, _claim, _claim_response)[step](rng, patient, visit)
    resource["meta"] = {
        "versionId": str(seq + 1),
        "lastUpdated": _time(number, seq),
        "source": "urn:example:interop-hub",
        "profile": [f"http://hl7.org/fhir/StructureDefinition/{resource['resourceType']}"],
    }
    body = _encode(resource)
    if resource["resourceType"] == "Claim":
        body = _attach(rng, resource, body, number)
    if len(body) < SIZE_MIN:
        resource["text"] = {"status": "generated", "div": "<div>" + "." * (SIZE_MIN - len(body)) + "</div>"}
        body = _encode(resource)
    return Event(patient, seq, resource["resourceType"], body, hashlib.sha256(body).hexdigest())


def _encode(resource: dict) -> bytes:
    return json.dumps(resource, separators=(",", ":"), ensure_ascii=False).encode()


def _time(number: int, seq: int) -> str:
    return (START + datetime.timedelta(minutes=37 * seq, seconds=number % 2220)).isoformat()


def _coding(system: str, code: str, display: str) -> dict:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _patient(person: random.Random, rng: random.Random, patient: str, seq: int) -> dict:
    family, given = person.choice(FAMILY), person.choice(GIVEN)
    city, state, postal = rng.choice(CITIES)
    return {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [
            {
                "use": "usual",
                "type": _coding("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "Medical record number"),
                "system": "urn:example:mrn",
                "value": f"{person.randrange(10**9):09d}",
            }
        ],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given]}],
        "telecom": [{"system": "phone", "value": f"+1-555-{rng.randrange(10**7):07d}", "use": "mobile"}],
        "gender": person.choice(["female", "male", "other", "unknown"]),
        "birthDate": f"{person.randrange(1930, 2020)}-{person.randrange(1, 13):02d}-{person.randrange(1, 29):02d}",
        "address": [
            {"use": "home", "line": [f"{rng.randrange(1, 999)} Elm St"], "city": city, "state": state, "postalCode": postal}
        ],
        "extension": [{"url": "urn:example:reason", "valueString": "registration" if seq == 0 else "address change"}],
    }


def _coverage(rng: random.Random, patient: str) -> dict:
    payer, name = rng.choice(PAYERS)
    return {
        "resourceType": "Coverage",
        "id": f"coverage-{patient}",
        "status": "active",
        "type": _coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "EHCPOL", "extended healthcare"),
        "subscriber": {"reference": f"Patient/{patient}"},
        "beneficiary": {"reference": f"Patient/{patient}"},
        "relationship": _coding("http://terminology.hl7.org/CodeSystem/subscriber-relationship", "self", "Self"),
        "period": {"start": "2026-01-01", "end": "2026-12-31"},
        "payor": [{"reference": f"Organization/{payer}", "display": name}],
        "class": [{"type": {"text": "group"}, "value": f"CBI{rng.randrange(99):02d}", "name": "Employee group"}],
    }


def _insurance(patient: str) -> list:
    return [{"focal": True, "sequence": 1, "coverage": {"reference": f"Coverage/coverage-{patient}"}}]


def _eligibility_request(rng: random.Random, patient: str, visit: str) -> dict:
    code, display, _, _ = rng.choice(SERVICES)
    return {
        "resourceType": "CoverageEligibilityRequest",
        "id": f"eligibility-{visit}",
        "status": "active",
        "priority": {"coding": [{"code": rng.choice(["normal", "stat"])}]},
        "purpose": ["auth-requirements", "benefits"],
        "patient": {"reference": f"Patient/{patient}"},
        "created": "2026-01-05",
        "provider": {"reference": f"Organization/provider-{rng.randrange(50)}"},
        "insurer": {"reference": "Organization/payer-1"},
        "insurance": [{"focal": True, "coverage": {"reference": f"Coverage/coverage-{patient}"}}],
        "item": [{"productOrService": _coding("http://www.ama-assn.org/go/cpt", code, display)}],
    }


def _eligibility_response(rng: random.Random, patient: str, visit: str) -> dict:
    benefits = [
        {
            "category": _coding("http://terminology.hl7.org/CodeSystem/ex-benefitcategory", str(30 + i), "Health plan benefit"),
            "authorizationRequired": rng.random() < 0.6,
            "benefit": [{"type": {"text": "copay"}, "allowedMoney": {"value": rng.randrange(5, 400), "currency": "USD"}}],
        }
        for i in range(rng.randrange(1, 25))
    ]
    return {
        "resourceType": "CoverageEligibilityResponse",
        "id": f"eligibility-answer-{visit}",
        "status": "active",
        "purpose": ["auth-requirements", "benefits"],
        "patient": {"reference": f"Patient/{patient}"},
        "created": "2026-01-05",
        "request": {"reference": f"CoverageEligibilityRequest/eligibility-{visit}"},
        "outcome": "complete",
        "insurer": {"reference": "Organization/payer-1"},
        "insurance": [{"coverage": {"reference": f"Coverage/coverage-{patient}"}, "inforce": True, "item": benefits}],
    }


def _claim(rng: random.Random, patient: str, visit: str) -> dict:
    code, display, diagnosis, reason = rng.choice(SERVICES)
    return {
        "resourceType": "Claim",
        "id": f"claim-{visit}",
        "status": "active",
        "type": _coding("http://terminology.hl7.org/CodeSystem/claim-type", "institutional", "Institutional"),
        "use": "preauthorization",
        "patient": {"reference": f"Patient/{patient}"},
        "created": "2026-01-05",
        "insurer": {"reference": "Organization/payer-1"},
        "provider": {"reference": f"Organization/provider-{rng.randrange(50)}"},
        "priority": {"coding": [{"code": rng.choice(["normal", "stat"])}]},
        "diagnosis": [
            {"sequence": 1, "diagnosisCodeableConcept": _coding("http://hl7.org/fhir/sid/icd-10-cm", diagnosis, reason)}
        ],
        "insurance": _insurance(patient),
        "item": [
            {
                "sequence": 1,
                "productOrService": _coding("http://www.ama-assn.org/go/cpt", code, display),
                "unitPrice": {"value": rng.randrange(200, 40000), "currency": "USD"},
            }
        ],
    }


def _claim_response(rng: random.Random, patient: str, visit: str) -> dict:
    approved = rng.random() < 0.8
    return {
        "resourceType": "ClaimResponse",
        "id": f"claim-answer-{visit}",
        "status": "active",
        "type": _coding("http://terminology.hl7.org/CodeSystem/claim-type", "institutional", "Institutional"),
        "use": "preauthorization",
        "patient": {"reference": f"Patient/{patient}"},
        "created": "2026-01-06",
        "insurer": {"reference": "Organization/payer-1"},
        "request": {"reference": f"Claim/claim-{visit}"},
        "outcome": "complete",
        "disposition": "certified in total" if approved else "not certified",
        "preAuthRef": f"PA{rng.randrange(10**8):08d}",
        "item": [{"itemSequence": 1, "adjudication": [{"category": {"text": "submitted" if approved else "denied"}}]}],
    }


def _attach(rng: random.Random, claim: dict, body: bytes, number: int) -> bytes:
    """Adds the clinical documents that a payer wants to see: most claims have none, few have large ones."""
    if number == 0:
        target = SIZE_MAX
    else:
        draw = rng.random()
        if draw < 0.80:
            return body
        target = rng.randrange(8 << 10, 200 << 10) if draw < 0.97 else rng.randrange(512 << 10, SIZE_MAX)
    attachment = {"contentType": "application/pdf", "title": "clinical notes", "data": ""}
    claim["supportingInfo"] = [
        {"sequence": 1, "category": {"coding": [{"code": "attachment"}]}, "valueAttachment": attachment}
    ]
    quads = (target - len(_encode(claim))) // 4
    attachment["data"] = base64.b64encode(rng.randbytes(quads * 3)).decode()
    return _encode(claim)
