// MessagePack with arrays as openpi packs them: enough of it for this page, and nothing else.

const TYPES = {
  f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array,
  u1: Uint8Array, b1: Uint8Array, u2: Uint16Array, u4: Uint32Array,
};
const utf8 = new TextDecoder(), bytes = new TextEncoder();

export function unpack(buffer) {
  const view = new DataView(buffer);
  let at = 0;
  const take = (size, read) => { const value = view[read](at); at += size; return value; };
  const blob = (size) => { const part = new Uint8Array(buffer, at, size); at += size; return part; };
  const list = (size) => Array.from({ length: size }, value);
  const map = (size) => {
    const found = {};
    for (let i = 0; i < size; i++) {
      const key = value();
      found[key instanceof Uint8Array ? utf8.decode(key) : key] = value();
    }
    return "__ndarray__" in found ? array(found) : "__npgeneric__" in found ? found.data : found;
  };
  function value() {
    const tag = take(1, "getUint8");
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15);
    if (tag < 0xa0) return list(tag & 15);
    if (tag < 0xc0) return utf8.decode(blob(tag & 31));
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return blob(take(1, "getUint8"));
      case 0xc5: return blob(take(2, "getUint16"));
      case 0xc6: return blob(take(4, "getUint32"));
      case 0xca: return take(4, "getFloat32");
      case 0xcb: return take(8, "getFloat64");
      case 0xcc: return take(1, "getUint8");
      case 0xcd: return take(2, "getUint16");
      case 0xce: return take(4, "getUint32");
      case 0xcf: return Number(take(8, "getBigUint64"));
      case 0xd0: return take(1, "getInt8");
      case 0xd1: return take(2, "getInt16");
      case 0xd2: return take(4, "getInt32");
      case 0xd3: return Number(take(8, "getBigInt64"));
      case 0xd9: return utf8.decode(blob(take(1, "getUint8")));
      case 0xda: return utf8.decode(blob(take(2, "getUint16")));
      case 0xdb: return utf8.decode(blob(take(4, "getUint32")));
      case 0xdc: return list(take(2, "getUint16"));
      case 0xdd: return list(take(4, "getUint32"));
      case 0xde: return map(take(2, "getUint16"));
      case 0xdf: return map(take(4, "getUint32"));
    }
    throw new Error(`MessagePack tag ${tag} is not one this page knows`);
  }
  return value();
}

function array(found) {
  const kind = String(found.dtype).replace(/[<>|=]/, "");
  const Type = TYPES[kind];
  if (!Type) throw new Error(`an array of ${found.dtype} is not one this page knows`);
  const copy = found.data.slice().buffer; // aligned, whatever stood before it
  return Object.assign(new Type(copy), { shape: found.shape });
}

export function pack(message) {
  const out = [];
  const number = (size, write, value) => {
    const view = new DataView(new ArrayBuffer(size));
    view[write](0, value);
    out.push(...new Uint8Array(view.buffer));
  };
  function put(value) {
    if (value === null || value === undefined) out.push(0xc0);
    else if (value === false || value === true) out.push(value ? 0xc3 : 0xc2);
    else if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
      out.push(0xce); number(4, "setUint32", value);
    } else if (typeof value === "number") { out.push(0xcb); number(8, "setFloat64", value); }
    else if (typeof value === "string") {
      const text = bytes.encode(value);
      out.push(0xda); number(2, "setUint16", text.length); out.push(...text);
    } else if (Array.isArray(value)) { out.push(0xdc); number(2, "setUint16", value.length); value.forEach(put); }
    else {
      const entries = Object.entries(value);
      out.push(0xde); number(2, "setUint16", entries.length);
      for (const [key, part] of entries) { put(key); put(part); }
    }
  }
  put(message);
  return new Uint8Array(out);
}
