// Listens to the inventory of pages with Node.js, with the models that modelina has generated from
// the AsyncAPI document.
//
//     npm ci && AMQP_URL=amqp://guest:guest@localhost/ node listener.mjs
//
// It prints a line for each event, until SIGINT or SIGTERM. A lost connection ends it with status 1:
// have whatever runs it start it again.
import amqp from "amqplib";
import { PageEventMessage } from "../models/javascript/PageEventMessage.js";

const { AMQP_URL = "amqp://guest:guest@localhost/", EXCHANGE = "metadata.events" } = process.env;
const { QUEUE = "node-listener.pages" } = process.env;
const CONTENT_TYPE = "application/cloudevents+json";
const REMEMBERED = 10_000;

let stopping = false;
const connection = await amqp.connect(AMQP_URL);
connection.on("error", (error) => console.error(error.message));
connection.on("close", () => process.exit(stopping ? 0 : 1));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    stopping = true;
    connection.close();
  });
}

const channel = await connection.createChannel();
await channel.prefetch(100);
// The exchange as the service declares it. The broker refuses any other type or durability.
await channel.assertExchange(EXCHANGE, "topic", { durable: true });
await channel.assertQueue(QUEUE, {
  durable: true,
  arguments: {
    "x-queue-type": "quorum",
    // Whoever is away for long loses the oldest events. `reject-publish` in place of `drop-head`
    // would lose the newest.
    "x-max-length": 100_000,
    "x-overflow": "drop-head",
    // A message that ends this program is delivered again so often, and then dropped.
    "x-delivery-limit": 5,
  },
});
await channel.bindQueue(QUEUE, EXCHANGE, "page.*");
await channel.consume(QUEUE, take);
console.error(`listening on ${QUEUE}`);

const handled = new Set(); // the latest ids, oldest first

function take(message) {
  if (message === null) {
    console.error(`${QUEUE} was deleted`);
    process.exit(1);
  }
  if (message.properties.contentType === CONTENT_TYPE) {
    once(PageEventMessage.unmarshal(message.content.toString()));
  } else {
    console.error(`dropped a message of type ${message.properties.contentType}`);
  }
  channel.ack(message); // after the work
}

// An event may arrive more than once, always with the same id.
function once(event) {
  if (handled.has(event.id)) return;
  show(event);
  handled.add(event.id);
  if (handled.size > REMEMBERED) handled.delete(handled.values().next().value);
}

function show({ reservedType, subject, time, data }) {
  // The generated models have times as text.
  const at = new Date(time).toISOString().slice(11, 19);
  const kind = reservedType.replace(/^page-metadata\.page\.|\.v1$/g, "");
  const detail = data.error ? data.error.kind : (data.title ?? "");
  console.log(`${at} ${kind.padEnd(9)} ${subject} ${detail}`.trimEnd());
}
