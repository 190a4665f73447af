import LossdTensor
import Testing

@testable import LossdFiles

@Suite struct HostileFileTests {
  static let files = [
    "float32.npy", "bfloat16.npy", "version2.npy", "version3.npy", "scalar.npy", "rank4.npy",
    "every.safetensors", "single.safetensors",
  ]

  @Test("a file cut at any byte is refused", arguments: files)
  func cutFiles(_ file: String) throws {
    let whole = try Golden.bytes(file)
    #expect(flaw(whole) == nil)
    for count in 0..<whole.count {
      #expect(flaw(Array(whole[..<count])) != nil, "\(count) bytes of \(file)")
    }
    #expect(flaw(whole + [0])?.kind == .malformed)
  }

  @Test("a cut file on disk is a truncated one, said with its path")
  func cutFilesOnDisk() throws {
    let scratch = try Scratch()
    for file in ["float32.npy", "every.safetensors"] {
      let whole = try Golden.bytes(file)
      for count in 0..<whole.count {
        let path = try scratch.file("cut", Array(whole[..<count]))
        let error = #expect(throws: FileError.self) { try TensorFile(path: path) }
        #expect(
          error?.kind == .truncated, "\(count) bytes of \(file): \(String(describing: error))")
        #expect(error?.description.hasPrefix(path + ": ") == true)
      }
    }
  }

  @Test("a file with random bytes changed is refused or read within its bounds", arguments: files)
  func changedFiles(_ file: String) throws {
    let whole = try Golden.bytes(file)
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SplitMix(state: seed)
    let scratch = try Scratch()
    for round in 0..<300 {
      var bytes = whole
      for _ in 0...Int.random(in: 0..<4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      if flaw(bytes) != nil { continue }
      let path = try scratch.file("changed", bytes)
      guard let read = try? TensorFile(path: path) else { continue }
      for name in read.names {
        guard let stored = try? read.tensor(named: name) else { continue }
        #expect(stored.tensor().byteCount <= bytes.count, "\(file), seed \(seed), round \(round)")
      }
    }
  }

  @Test(
    "a .npy header that lies or is not one is refused",
    arguments: [
      "", "{", "{}", "[]", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (01,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,) } x",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
      "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4\\x00', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}",
      "{descr: '<f4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (\(String(repeating: "1,", count: 65)))}",
      "{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<V4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}",
    ])
  func hostileNPYHeaders(_ text: String) {
    #expect(flaw(npy(text, count: 4)) != nil)
    #expect(flaw(npy(text)) != nil)
  }

  @Test("a .npy header may order and space its keys freely and use either quotes")
  func freeNPYHeaders() {
    let free = "{ \"shape\":(2,1),'fortran_order' :False\n,'descr': \"<f4\" }\n \t "
    #expect(flaw(npy(free, count: 8)) == nil)
    #expect(flaw(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2L, 0L)}")) == nil)
    #expect(
      flaw(npy("{'descr': 'bfloat16', 'fortran_order': False, 'shape': ()}", count: 2)) == nil)
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
    var bytes = npy(text, count: 4)
    #expect(flaw(bytes) == nil)
    for version in [[0, 0], [1, 1], [4, 0], [255, 255]] as [[UInt8]] {
      bytes.replaceSubrange(6..<8, with: version)
      #expect(flaw(bytes)?.kind == .unsupported)
    }
    let endless = NPYHeader.magic + [2, 0, 255, 255, 255, 255] + Array(text.utf8)
    #expect(flaw(endless)?.kind == .unsupported)
  }

  @Test(
    "a .safetensors header that lies or is not one is refused",
    arguments: [
      "", "{", "[]", "null", "{}x", "{\"a\"}", "{\"a\":{}}", "{\"a\":1}", "{'a':{}}",
      tensor("\"F32\"", "[1]", "[0]"), tensor("\"F32\"", "[1]", "[0,4,8]"),
      tensor("\"F32\"", "[1]", "[4,0]"), tensor("\"F32\"", "[1]", "[0,3]"),
      tensor("\"F32\"", "[1]", "[0,5]"), tensor("\"F32\"", "[1]", "[1,5]"),
      tensor("\"F32\"", "[1]", "[-4,0]"), tensor("\"F32\"", "[-1]", "[0,4]"),
      tensor("\"F32\"", "[1.0]", "[0,4]"), tensor("\"F32\"", "[1e0]", "[0,4]"),
      tensor("\"F32\"", "[01]", "[0,4]"), tensor("F32", "[1]", "[0,4]"),
      tensor("\"F32\"", "[1,]", "[0,4]"), tensor("\"F32\"", "1", "[0,4]"),
      tensor("\"F32\"", "[4611686018427387904,4]", "[0,0]"),
      tensor("\"F32\"", "[4611686018427387905]", "[0,4]"),
      tensor("\"F32\"", "[9223372036854775808]", "[0,4]"),
      tensor("\"F32\"", "[4294967296,4294967296]", "[0,0]"),
      tensor("\"F32\"", "[1]", "[9223372036854775804,9223372036854775807]"),
      tensor("\"F32\"", "[1]", "[18446744073709551612,0]"),
      tensor("\"F32\"", "[\(String(repeating: "1,", count: 64))1]", "[0,4]"),
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}",
      "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}",
      "{\"a\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        + "\"a\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
      // Overlapping, and with a hole.
      "{\"a\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]},"
        + "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
      "{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        + "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
      "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}",
      "{\"\\ud800\":{}}", "{\"\\udc00\":{}}", "{\"\\u12g4\":{}}", "{\"\\x41\":{}}", "{\"a\nb\":{}}",
      "{\"a", "{\"a\\", "{\"a\\u00",
    ])
  func hostileSafetensorsHeaders(_ json: String) {
    #expect(flaw(safetensors(json, count: 4)) != nil)
    #expect(flaw(safetensors(json, count: 5)) != nil)
  }

  @Test("a .safetensors header's length is not believed")
  func safetensorsLengths() {
    for length in [3, 100_000_000, 100_000_001, UInt64(Int64.max), 1 << 63, .max, .max - 7] {
      #expect(flaw(safetensors("{}", length: length)) != nil)
    }
    #expect(flaw(safetensors("{}")) == nil)
    #expect(flaw(safetensors("{} \n ")) == nil)
    #expect(
      flaw(safetensors("{\"\\u00e9\\ud83d\\ude00\\n\":" + tensor.dropFirst(5), count: 4)) == nil)
    let notUTF8: [UInt8] = [4, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x22, 0xFF, 0x22]
    #expect(flaw(notUTF8)?.text.contains("UTF-8") == true)
  }

  @Test("what is no regular file, or none at all, is refused without waiting")
  func notRegularFiles() throws {
    let scratch = try Scratch()
    for path in [scratch.path, "/dev/zero", scratch.path + "/absent", ""] {
      #expect(throws: FileError.self) { try TensorFile(path: path) }
    }
    let error = #expect(throws: FileError.self) { try TensorFile(path: scratch.path + "/absent") }
    #expect(error?.kind == .system(errno: 2))
    let other = try scratch.file("text.npy", Array("Hello, this is text\n".utf8))
    #expect(throws: FileError.self) { try TensorFile(path: other) }
  }

  static let tensor = tensor("\"F32\"", "[1]", "[0,4]")
  var tensor: String { HostileFileTests.tensor }

  static func tensor(_ type: String, _ shape: String, _ offsets: String) -> String {
    "{\"a\":{\"dtype\":\(type),\"shape\":\(shape),\"data_offsets\":\(offsets)}}"
  }
}

/// Steele, Lea and Flood's SplitMix64: a generator that a seed repeats.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
