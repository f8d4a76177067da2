// ts-mls behind the MLS peer protocol (mlspeer/1): JSON lines over stdin and
// stdout. It declares the features that ts-mls has. Where ts-mls differs from
// RFC 9420, this file either repairs it on ts-mls's side, marked REPAIR, or
// does without; ../README.md lists the differences.
import { createInterface } from "node:readline"
import { readFileSync } from "node:fs"
import {
  ciphersuites, createApplicationMessage, createCommit, createGroup, createGroupInfoWithExternalPub,
  createGroupInfoWithExternalPubAndRatchetTree, createProposal, decodeMlsMessage, defaultExtensionTypes, encodeMlsMessage,
  bytesToBase64, generateKeyPackageWithKey, getCiphersuiteFromName, getCiphersuiteImpl, joinGroupExternal, joinGroupWithExtensions,
  makePskIndex, mlsExporter, processPrivateMessage, processPublicMessage, acceptAll, defaultPaddingConfig,
  defaultKeyPackageEqualityConfig, defaultAuthenticationService,
} from "ts-mls"
import { p256 } from "@noble/curves/nist.js"
import { decodeRatchetTree, encodeRatchetTree } from "ts-mls/ratchetTree.js"
import { makeKeyPackageRef } from "ts-mls/keyPackage.js"

const { version } = JSON.parse(readFileSync(new URL("node_modules/ts-mls/package.json", import.meta.url)))
const limits = { out_of_order: 32, past_epochs: 2, forward: 1000 }
const config = {
  keyRetentionConfig: { retainKeysForGenerations: 64, retainKeysForEpochs: 4, maximumForwardRatchetSteps: 1024 },
  lifetimeConfig: { maximumTotalLifetime: 120n * 86400n, validateLifetimeOnReceive: false },
  keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
  paddingConfig: defaultPaddingConfig,
  authService: defaultAuthenticationService,
}
const features = [
  "aad", "leaf_exts", "kp_exts", "gi_exts", "gc_exts", "private_handshake", "propose_add", "propose_remove", "propose_gce",
  "race", "stage", "stage_external", "external_join", "resync", "tree_outside", "out_of_order", "old_epochs", "removed",
  "export", "psk", "decode",
]

class Refusal extends Error {
  constructor(code, text) { super(text); this.code = code }
}
const hex = (b) => Buffer.from(b).toString("hex")
const bytes = (s) => {
  if (typeof s !== "string" || !/^([0-9a-f]{2})*$/.test(s)) throw new Refusal("bad_request", "bad hex")
  return new Uint8Array(Buffer.from(s, "hex"))
}
const optional = (s) => (s === undefined ? undefined : bytes(s))
const names = Object.fromEntries(Object.entries(defaultExtensionTypes).map(([name, n]) => [n, name]))
const toExtensions = (list = []) => list.map((e) => ({ extensionType: names[e.type] ?? e.type, extensionData: bytes(e.data) }))
const fromExtensions = (list) => list
  .filter((e) => e.extensionType !== "ratchet_tree")
  .map((e) => ({ type: defaultExtensionTypes[e.extensionType] ?? e.extensionType, data: hex(e.extensionData) }))

// REPAIR: RFC 9420 12.4.3.2 has the key of external_pub as opaque<V>; ts-mls
// writes and reads it bare. Lengths tell the two apart.
const prefixes = { 33: 1, 67: 2 }
function rfc(cs) {
  return {
    ...cs,
    hpke: {
      ...cs.hpke,
      importPublicKey: (k) => cs.hpke.importPublicKey(prefixes[k.length] ? k.slice(prefixes[k.length]) : k),
    },
  }
}
function publishing(cs) {
  return {
    ...cs,
    hpke: {
      ...cs.hpke,
      exportPublicKey: async (k) => {
        const key = await cs.hpke.exportPublicKey(k)
        const header = key.length < 64 ? [key.length] : [0x40 | (key.length >> 8), key.length & 0xff]
        return new Uint8Array([...header, ...key])
      },
    },
  }
}

const encode = (wireformat, field, value) => hex(encodeMlsMessage({ version: "mls10", wireformat, [field]: value }))
function decode(s, ...formats) {
  const b = bytes(s)
  let decoded
  try { decoded = decodeMlsMessage(b, 0) } catch { /* below */ }
  if (decoded === undefined || decoded[1] !== b.length || (formats.length && !formats.includes(decoded[0].wireformat))) {
    throw new Refusal("decode", "not the expected message")
  }
  return decoded[0]
}

const clients = new Map()

async function client(r) {
  const known = clients.get(r.client)
  if (known) return known
  const suite = r.suite ?? 1
  if (![1, 2, 3].includes(suite)) throw new Refusal("unsupported", "suite")
  const name = Object.keys(ciphersuites).find((n) => ciphersuites[n] === suite)
  const cs = await getCiphersuiteImpl(getCiphersuiteFromName(name))
  const keys = await cs.signature.keygen()
  // REPAIR: RFC 9420 5.1.1 wants NIST keys uncompressed; ts-mls compresses its own.
  if (suite === 2) keys.publicKey = p256.getPublicKey(keys.signKey, false)
  return { name: r.client, suite: name, cs: rfc(cs), keys, unused: [], psks: {} }
}

function active(c) {
  if (!c?.state || c.removed) throw new Refusal("no_group", "not in a group")
  return c.state
}

async function newKeyPackage(c, r) {
  if (r.credential_type !== undefined) throw new Refusal("unsupported", "custom credentials")
  const now = BigInt(Math.floor(Date.now() / 1000))
  return generateKeyPackageWithKey(
    { credentialType: "basic", identity: new TextEncoder().encode(r.identity ?? c.name) },
    {
      versions: ["mls10"], ciphersuites: [c.suite], extensions: r.cap_exts ?? [], proposals: r.cap_props ?? [],
      credentials: ["basic", "x509", ...(r.cap_creds ?? []).map(String)],
    },
    { notBefore: now - 86400n, notAfter: now + 80n * 86400n },
    toExtensions(r.kp_exts), c.keys, c.cs, toExtensions(r.leaf_exts),
  )
}

function members(state) {
  return state.ratchetTree.flatMap((n, i) => (n?.nodeType === "leaf" ? [{
    index: i / 2,
    identity: n.leaf.credential.identity ? Buffer.from(n.leaf.credential.identity).toString() : "",
    credential_type: n.leaf.credential.credentialType === "x509" ? 2 : 1,
    leaf_exts: fromExtensions(n.leaf.extensions),
  }] : []))
}

async function status(c) {
  if (c?.removed) return { status: "removed", epoch: Number(c.state.groupContext.epoch) }
  const s = active(c)
  return {
    status: "active",
    epoch: Number(s.groupContext.epoch),
    exporter: hex(await mlsExporter(s.keySchedule.exporterSecret, "exporter", new Uint8Array(), 32, c.cs)),
    tree_hash: hex(s.groupContext.treeHash),
    confirmed_transcript_hash: hex(s.groupContext.confirmedTranscriptHash),
    epoch_authenticator: hex(s.keySchedule.epochAuthenticator),
    own_leaf: s.privatePath.leafIndex,
    pending: c.staged !== undefined,
    gc_exts: fromExtensions(s.groupContext.extensions),
    members: members(s),
  }
}

function leafOf(state, who) {
  if (typeof who === "number") return who
  const m = members(state).find((m) => m.identity === who)
  if (!m) throw new Refusal("invalid", "no such member")
  return m.index
}

const addOf = (s) => ({ proposalType: "add", add: { keyPackage: decode(s, "mls_key_package").keyPackage } })
const removeOf = (state, who) => ({ proposalType: "remove", remove: { removed: leafOf(state, who) } })
const gceOf = (list) => ({ proposalType: "group_context_extensions", groupContextExtensions: { extensions: toExtensions(list) } })

const ops = {
  hello: async () => ({ protocol: 1, name: "ts-mls", version, suites: [1, 2, 3], features, limits }),

  key_package: async (c, r) => {
    const kp = await newKeyPackage(c, r)
    c.unused.push(kp)
    return {
      key_package: encode("mls_key_package", "keyPackage", kp.publicPackage),
      ref: hex(await makeKeyPackageRef(kp.publicPackage, c.cs.hash)),
      identity: r.identity ?? c.name,
    }
  },

  create: async (c, r) => {
    if (c.state && !c.removed) throw new Refusal("invalid", "in a group")
    const kp = await newKeyPackage(c, r)
    c.state = await createGroup(bytes(r.group_id), kp.publicPackage, kp.privatePackage, toExtensions(r.gc_exts), c.cs, config)
    c.removed = false
    return status(c)
  },

  psk: async (c, r) => {
    c.psks[bytesToBase64(bytes(r.id))] = bytes(r.secret)
    return {}
  },

  commit: async (c, r) => {
    const state = active(c)
    if (c.staged) throw new Refusal("pending", "a commit is staged")
    const proposals = [
      ...(r.remove ?? []).map((w) => removeOf(state, w)),
      ...(r.add ?? []).map(addOf),
      ...(r.gce ? [gceOf(r.gce)] : []),
      ...(r.psks ?? []).map((id) => ({
        proposalType: "psk",
        psk: { preSharedKeyId: { psktype: "external", pskId: bytes(id), pskNonce: c.cs.rng.randomBytes(c.cs.kdf.size) } },
      })),
    ]
    const result = await createCommit({ state, cipherSuite: c.cs, pskIndex: makePskIndex(state, c.psks) }, {
      wireAsPublicMessage: !r.private, extraProposals: proposals, ratchetTreeExtension: !r.no_tree,
      groupInfoExtensions: toExtensions(r.gi_exts), authenticatedData: optional(r.aad),
    })
    if (r.stage) c.staged = result.newState
    else c.state = result.newState
    return {
      commit: hex(encodeMlsMessage(result.commit)),
      ...(result.welcome ? { welcome: encode("mls_welcome", "welcome", result.welcome) } : {}),
      ratchet_tree: hex(encodeRatchetTree(result.newState.ratchetTree)),
      ...(await status(c)),
    }
  },

  confirm: async (c) => {
    if (!c?.staged) throw new Refusal("no_pending", "nothing is staged")
    c.state = c.staged
    c.staged = undefined
    c.removed = false
    return status(c)
  },

  discard: async (c) => {
    if (!c?.staged) throw new Refusal("no_pending", "nothing is staged")
    c.staged = undefined
    return c.state ? status(c) : {}
  },

  propose: async (c, r) => {
    const state = active(c)
    if (r.update) throw new Refusal("unsupported", "Update proposals")
    const p = r.add ? addOf(r.add) : r.gce ? gceOf(r.gce) : removeOf(state, r.remove)
    const result = await createProposal(state, !r.private, p, c.cs, optional(r.aad))
    c.state = result.newState
    return { message: hex(encodeMlsMessage(result.message)) }
  },

  join: async (c, r) => {
    const { welcome } = decode(r.welcome, "mls_welcome")
    if (c.state && !c.removed) throw new Refusal("invalid", "in a group")
    for (const kp of c.unused) {
      const ref = hex(await makeKeyPackageRef(kp.publicPackage, c.cs.hash))
      if (!welcome.secrets.some((s) => hex(s.newMember) === ref)) continue
      const tree = r.ratchet_tree === undefined ? undefined : decodeRatchetTree(bytes(r.ratchet_tree), 0)[0]
      const [state, extensions] = await joinGroupWithExtensions(
        welcome, kp.publicPackage, kp.privatePackage, makePskIndex(undefined, c.psks), c.cs, tree, undefined, config,
      )
      c.state = state
      c.removed = false
      c.unused = c.unused.filter((k) => k !== kp)
      return { ...(await status(c)), gi_exts: fromExtensions(extensions) }
    }
    throw new Refusal("no_key_package", "no key package for this Welcome")
  },

  group_info: async (c, r) => {
    const state = active(c)
    const make = r.no_tree ? createGroupInfoWithExternalPub : createGroupInfoWithExternalPubAndRatchetTree
    const info = await make(state, toExtensions(r.gi_exts), publishing(c.cs))
    return { group_info: encode("mls_group_info", "groupInfo", info), ratchet_tree: hex(encodeRatchetTree(state.ratchetTree)) }
  },

  external_join: async (c, r) => {
    if (c.staged) throw new Refusal("pending", "a commit is staged")
    if (c.state && !c.removed && !r.resync) throw new Refusal("invalid", "in a group")
    const { groupInfo } = decode(r.group_info, "mls_group_info")
    const tree = r.ratchet_tree === undefined ? undefined : decodeRatchetTree(bytes(r.ratchet_tree), 0)[0]
    const kp = await newKeyPackage(c, r)
    const result = await joinGroupExternal(
      groupInfo, kp.publicPackage, kp.privatePackage, r.resync === true, c.cs, tree, config, optional(r.aad),
    )
    const answer = {
      commit: encode("mls_public_message", "publicMessage", result.publicMessage),
      gi_exts: fromExtensions(groupInfo.extensions),
    }
    if (r.stage) {
      c.staged = result.newState
      return answer
    }
    c.state = result.newState
    c.removed = false
    return { ...answer, ...(await status(c)) }
  },

  process: async (c, r) => {
    const state = active(c)
    const m = decode(r.message, "mls_public_message", "mls_private_message")
    const psks = makePskIndex(state, c.psks)
    const framing = m.publicMessage?.content ?? m.privateMessage
    const handshake = framing.contentType !== "application"
    if (handshake && framing.epoch !== state.groupContext.epoch) throw new Refusal("stale", "another epoch")
    if (framing.epoch > state.groupContext.epoch) throw new Refusal("stale", "another epoch")
    const result = m.publicMessage
      ? await processPublicMessage(state, m.publicMessage, psks, c.cs, acceptAll)
      : await processPrivateMessage(state, m.privateMessage, psks, c.cs, acceptAll)
    c.state = result.newState
    if (framing.contentType === "commit") {
      c.staged = undefined
      c.removed = c.state.groupActiveState.kind === "removedFromGroup"
    }
    return {
      kind: framing.contentType,
      aad: hex(framing.authenticatedData),
      ...(framing.sender?.senderType === "member" ? { sender: framing.sender.leafIndex } : {}),
      ...(framing.contentType === "application" ? { data: hex(result.message) } : {}),
      ...(await status(c)),
    }
  },

  send: async (c, r) => {
    const state = active(c)
    if (Object.keys(state.unappliedProposals).length > 0) throw new Refusal("invalid", "proposals wait")
    const result = await createApplicationMessage(state, bytes(r.data), c.cs, optional(r.aad))
    c.state = result.newState
    return { message: encode("mls_private_message", "privateMessage", result.privateMessage) }
  },

  export: async (c, r) => ({
    secret: hex(await mlsExporter(active(c).keySchedule.exporterSecret, r.label, bytes(r.context), r.length, c.cs)),
  }),

  info: async (c) => status(c),

  decode: async (_, r) => {
    const m = decode(r.message)
    return { wire_format: m.wireformat, reencoded: hex(encodeMlsMessage(m)) }
  },
}

const makers = new Set(["key_package", "create", "psk", "external_join"])

async function handle(line) {
  let r
  try { r = JSON.parse(line) } catch { throw new Refusal("bad_request", "not JSON") }
  if (typeof r?.op !== "string") throw new Refusal("bad_request", "no op")
  if (!Object.hasOwn(ops, r.op)) throw new Refusal("unsupported", "op")
  if (r.op === "hello" || r.op === "decode") return ops[r.op](undefined, r)
  if (typeof r.client !== "string") throw new Refusal("bad_request", "no client")
  const c = makers.has(r.op) ? await client(r) : clients.get(r.client)
  if (!c) throw new Refusal("no_group", "no such client")
  const answer = await ops[r.op](c, r)
  clients.set(r.client, c)
  return answer
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let answer
  try {
    answer = { ok: true, ...(await handle(line)) }
  } catch (e) {
    answer = { ok: false, code: e instanceof Refusal ? e.code : "invalid", error: String(e?.message ?? e) }
  }
  process.stdout.write(JSON.stringify(answer) + "\n")
}
