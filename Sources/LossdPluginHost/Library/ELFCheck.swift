import Glibc
import LossdTensor

/// Whether bytes are a shared library for this machine that may be opened. Nothing in them is
/// believed: every offset is checked before it is followed.
enum ELFCheck {
  #if arch(x86_64)
    private static let machine: UInt16 = 62
    private static let machineName = "x86-64"
  #elseif arch(arm64)
    private static let machine: UInt16 = 183
    private static let machineName = "AArch64"
  #else
    private static let machine: UInt16 = 0
    private static let machineName = "this machine"
  #endif

  /// PT_GNU_STACK; a library without it wants an executable one.
  private static let stackType: UInt32 = 0x6474_E551

  private struct Segment {
    var offset: Int
    var address: Int
    var size: Int
  }

  static func check(
    _ descriptor: Int32, _ size: Int, _ refuse: (String) throws(StatusError) -> Never
  ) throws(StatusError) {
    guard let map = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), map != MAP_FAILED else {
      try refuse("it cannot be mapped")
    }
    defer { munmap(map, size) }
    let bytes = UnsafeRawBufferPointer(start: map, count: size)
    guard size >= 64, bytes.load(as: UInt32.self) == 0x464C_457F else {
      try refuse("not an ELF file")
    }
    guard bytes[4] == 2, bytes[5] == 1 else { try refuse("not a 64-bit little-endian ELF file") }
    guard bytes.load(fromByteOffset: 18, as: UInt16.self) == machine else {
      try refuse("built for another architecture than \(machineName)")
    }
    guard bytes.load(fromByteOffset: 16, as: UInt16.self) == 3 else {
      try refuse("not a shared library")
    }
    if let reason = dependencies(bytes) { try refuse(reason) }
  }

  /// A reason to refuse it for what it needs, or for headers that lie.
  private static func dependencies(_ bytes: UnsafeRawBufferPointer) -> String? {
    let table = bytes.load(fromByteOffset: 32, as: UInt64.self)
    let entry = Int(bytes.load(fromByteOffset: 54, as: UInt16.self))
    let count = Int(bytes.load(fromByteOffset: 56, as: UInt16.self))
    guard entry >= 56, table <= bytes.count, Int(table) + entry * count <= bytes.count else {
      return "truncated: its program headers lie outside of the file"
    }
    var loads: [Segment] = []
    var dynamic: Segment?
    var hasPlainStack = false
    for index in 0..<count {
      let at = Int(table) + index * entry
      func word(_ offset: Int) -> Int? {
        Int(exactly: bytes.loadUnaligned(fromByteOffset: at + offset, as: UInt64.self))
      }
      guard let offset = word(8), let address = word(16), let size = word(32) else {
        return "its program headers lie"
      }
      let type = bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)
      guard type != 1 && type != 2 || (offset <= bytes.count && size <= bytes.count - offset) else {
        return "truncated: a segment lies outside of the file"
      }
      let segment = Segment(offset: offset, address: address, size: size)
      if type == 1 { loads.append(segment) }
      if type == 2 { dynamic = segment }
      if type == stackType {
        hasPlainStack = bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self) & 1 == 0
      }
    }
    // glibc would make the stacks of all threads executable for it.
    guard hasPlainStack else { return "it wants an executable stack: link it with -z noexecstack" }
    guard let dynamic else { return "it has no dynamic section" }
    return needed(bytes, dynamic, loads)
  }

  private static func needed(
    _ bytes: UnsafeRawBufferPointer, _ dynamic: Segment, _ loads: [Segment]
  ) -> String? {
    var names: [Int] = []
    var strings: Int?
    for at in stride(from: dynamic.offset, to: dynamic.offset + dynamic.size - 15, by: 16) {
      let tag = bytes.loadUnaligned(fromByteOffset: at, as: Int64.self)
      let value = bytes.loadUnaligned(fromByteOffset: at + 8, as: Int64.self)
      if tag == 0 { break }
      if tag == 1 { names.append(Int(value)) }
      if tag == 5 { strings = Int(value) }
    }
    guard let strings,
      let home = loads.first(where: {
        strings >= $0.address && strings - $0.address < $0.size
      })
    else { return names.isEmpty ? nil : "its dynamic section lies" }
    let base = strings - home.address + home.offset
    for name in names {
      guard name >= 0, name < bytes.count, base + name < bytes.count else {
        return "its dynamic section lies"
      }
      let text = String(
        decoding: bytes[(base + name)...].prefix { $0 != 0 }.prefix(256), as: UTF8.self)
      if text.hasPrefix("libswift") {
        return "it needs \(text): link Swift's runtime statically (-static-stdlib)"
      }
    }
    return nil
  }
}
