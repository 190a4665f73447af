import LossdTensor

extension NPYHeader {
  /// A header longer than this is refused; numpy itself stops at 10,000 bytes unless told
  /// otherwise.
  static let lengthMax = 1 << 16
  /// numpy's and lossd's most dimensions.
  static let rankMax = 64

  /// The header of a whole file and where its elements start; checks the file's length too.
  static func parse(
    _ file: UnsafeRawBufferPointer
  ) throws(HeaderFlaw) -> (header: NPYHeader, dataOffset: Int) {
    let text = try headerRange(file)
    var parser = Parser(scanner: HeaderScanner(file[text]))
    let header = try parser.header()
    let shape = shapeText(header.shape.lazy.map { Int64($0) })
    let size = header.dataType.byteSize
    guard let count = checkedElementCount(header.shape.lazy.map { Int64($0) }, byteSize: size)
    else {
      throw HeaderFlaw(
        .malformed, "its shape \(shape) of \(header.dataType) exceeds 2^63 - 1 bytes")
    }
    let found = file.count - text.upperBound
    if found < count * size {
      throw HeaderFlaw(
        .truncated,
        "\(found) bytes follow the header, expected \(count * size) for \(header.dataType) \(shape)"
      )
    }
    if found > count * size {
      throw HeaderFlaw(
        .malformed,
        "\(found) bytes follow the header, expected \(count * size) for \(header.dataType) "
          + "\(shape); "
          + "a file of several arrays is not read")
    }
    return (header, text.upperBound)
  }

  /// Where the header's text lies: 6 bytes of magic, 2 of version, 2 or 4 of length before it.
  private static func headerRange(
    _ file: UnsafeRawBufferPointer
  ) throws(HeaderFlaw) -> Range<Int> {
    guard file.count >= 8 else { throw cut(file.count, "the 8 bytes of magic and version") }
    let (major, minor) = (file[6], file[7])
    guard (1...3).contains(major) && minor == 0 else {
      throw HeaderFlaw(
        .unsupported, "it is of .npy version \(major).\(minor), expected 1.0, 2.0 or 3.0")
    }
    let start = major == 1 ? 10 : 12
    guard file.count >= start else { throw cut(file.count, "the header's length") }
    var length = 0
    for index in stride(from: start - 1, through: 8, by: -1) {
      length = length << 8 | Int(file[index])
    }
    guard length <= lengthMax else {
      throw HeaderFlaw(
        .unsupported, "its header has \(length) bytes, expected at most \(lengthMax)")
    }
    guard file.count - start >= length else {
      throw cut(file.count, "its header of \(length) bytes from byte \(start)")
    }
    return start..<start + length
  }

  private static func cut(_ count: Int, _ what: String) -> HeaderFlaw {
    HeaderFlaw(.truncated, "the file ends after \(count) bytes, within \(what)")
  }

  /// Reads the Python dictionary of three known keys; nothing else of Python.
  private struct Parser {
    var scanner: HeaderScanner
    private var descriptor: String?
    private var isFortranOrder: Bool?
    private var shape: [Int]?

    init(scanner: HeaderScanner) { self.scanner = scanner }

    mutating func header() throws(HeaderFlaw) -> NPYHeader {
      try scanner.expect("{")
      while !scanner.skip("}") {
        try entry()
        if scanner.skip(",") { continue }
        try scanner.expect("}")
        break
      }
      scanner.skipSpace()
      if !scanner.isAtEnd { throw scanner.unexpected("its end") }
      guard let descriptor else { throw missing("descr") }
      guard let isFortranOrder else { throw missing("fortran_order") }
      guard let shape else { throw missing("shape") }
      let (dataType, isBigEndian) = try NPYHeader.dataType(descriptor)
      let order = ElementOrder(isColumnMajor: isFortranOrder, isBigEndian: isBigEndian)
      return NPYHeader(dataType: dataType, shape: shape, order: order)
    }

    private mutating func entry() throws(HeaderFlaw) {
      let key = try string("a key")
      try scanner.expect(":")
      switch key {
      case "descr" where descriptor == nil:
        if scanner.skip("[") || scanner.skip("(") {
          throw HeaderFlaw(
            .unsupported, "its elements are structured, expected one number an element")
        }
        descriptor = try string("the type's name")
      case "fortran_order" where isFortranOrder == nil:
        if scanner.skip(word: "False") {
          isFortranOrder = false
        } else if scanner.skip(word: "True") {
          isFortranOrder = true
        } else {
          throw scanner.unexpected("True or False")
        }
      case "shape" where shape == nil:
        shape = try tuple()
      default:
        throw HeaderFlaw(
          .malformed,
          "its header has the key \(quoted(key)), expected descr, fortran_order and shape, once "
            + "each"
        )
      }
    }

    private mutating func string(_ meaning: String) throws(HeaderFlaw) -> String {
      scanner.skipSpace()
      guard let quote = scanner.next, quote == 0x27 || quote == 0x22 else {
        throw scanner.unexpected("\(meaning) in quotes")
      }
      scanner.advance()
      let start = scanner.position
      while let byte = scanner.next, byte != quote {
        if byte == UInt8(ascii: "\\") || byte < 0x20 {
          throw scanner.unexpected("a plain character")
        }
        scanner.advance()
      }
      let text = scanner.bytes[start..<scanner.position]
      if scanner.isAtEnd { throw scanner.unexpected("the end of \(meaning)") }
      scanner.advance()
      return String(decoding: text, as: UTF8.self)
    }

    /// `()`, `(3,)`, `(3, 4)`, `(3, 4,)`; Python 2 wrote `(3L, 4L)`.
    private mutating func tuple() throws(HeaderFlaw) -> [Int] {
      try scanner.expect("(")
      var sizes: [Int] = []
      while !scanner.skip(")") {
        if sizes.count == NPYHeader.rankMax {
          throw HeaderFlaw(.unsupported, "its shape has over \(NPYHeader.rankMax) dimensions")
        }
        sizes.append(try scanner.integer("size"))
        _ = scanner.skip("L")
        if scanner.skip(",") { continue }
        if sizes.count == 1 { throw scanner.unexpected("',' after the only size") }
        try scanner.expect(")")
        break
      }
      return sizes
    }

    private func missing(_ key: String) -> HeaderFlaw {
      HeaderFlaw(.malformed, "its header lacks the key '\(key)'")
    }
  }
}
