"""A benchmark peer without a queue: each request INSERTs its events and is answered when they are committed.

Written as such a service usually is: pydantic validates the events, and asyncpg sends a whole batch as one prepared
INSERT over arrays, which is faster than one statement for each event. It has a pool of 5 to 10 connections. It does
less work than Millrace: it checks the key, but it has no plans, no metering and no idempotent retries of a batch.

The benchmark starts it with DATABASE_URL, API_KEY and PROJECT_ID.
"""

import json
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

AUTHORIZATION = f"Bearer {os.environ['API_KEY']}"
PROJECT_ID = int(os.environ["PROJECT_ID"])
INSERT = """
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties, context)
    SELECT $1, timestamp, event_id, now(), name, subject, properties, context
    FROM unnest($2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[])
         AS new (timestamp, event_id, name, subject, properties, context)
    ON CONFLICT DO NOTHING
"""


class Event(BaseModel):
    id: uuid.UUID
    name: Annotated[str, Field(min_length=1, max_length=200)]
    timestamp: datetime
    subject: Annotated[str, Field(max_length=200)] | None = None
    properties: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class Batch(BaseModel):
    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


def as_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


@app.post("/v1/events", status_code=202)
async def post_events(batch: Batch, authorization: Annotated[str, Header()] = ""):
    if authorization != AUTHORIZATION:
        raise HTTPException(401)
    events = batch.events
    async with app.state.pool.acquire() as connection:
        await connection.execute(
            INSERT,
            PROJECT_ID,
            [event.timestamp for event in events],
            [event.id for event in events],
            [event.name for event in events],
            [event.subject for event in events],
            [as_json(event.properties) for event in events],
            [as_json(event.context) for event in events],
        )
    return {"accepted": len(events), "rejected": []}


@app.get("/readyz")
async def readyz():
    return {"ready": True}
