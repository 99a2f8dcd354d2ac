// Run once, by MongoDB's image, when its volume is new: the service's user may read and write its
// own database, and nothing else.
db.getSiblingDB("metadata_inventory").createUser({
  user: "metadata",
  pwd: process.env.METADATA_PASSWORD,
  roles: [{ role: "readWrite", db: "metadata_inventory" }],
});
