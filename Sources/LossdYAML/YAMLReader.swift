import CYAML

/// Reads a document.
///
/// - Parameters:
///   - bytes: The document, UTF-8, with or without a byte order mark.
///   - limits: What it may have at most.
/// - Returns: Its root, nil where it has nothing but comments.
/// - Throws: ``YAMLError`` for what is no YAML, for a second document, for two keys that are the
///   same, a key that is not a text, a NUL in a text, an alias without its anchor, and for what
///   goes beyond a limit.
public func readYAML(_ bytes: [UInt8], limits: YAMLLimits) throws(YAMLError) -> YAMLNode? {
  try checkTagLines(bytes)
  let events = YAMLEvents(bytes)
  var tree = YAMLTree(limits: limits)
  while let event = try events.next() { try tree.take(event) }
  return tree.root
}

/// Libyaml compares each `%TAG` line with all before it, before it tells of any of them: a mebibyte
/// of them is 15 s.
private func checkTagLines(_ bytes: [UInt8]) throws(YAMLError) {
  let limit = 8
  let excess = bytes.withUnsafeBufferPointer { bytes -> Int? in
    var (count, place) = (0, 0)
    while place + 4 <= bytes.count {
      if bytes[place] == UInt8(ascii: "%"), bytes[(place + 1)...].starts(with: "TAG".utf8) {
        count += 1
        if count > limit { return place }
      }
      place += 1
    }
    return nil
  }
  guard let excess else { return }
  throw YAMLError(
    line: line(of: excess, in: bytes), text: "over \(limit) %TAG, the most that there may be")
}

/// The line of a byte, counted from 1.
private func line(of place: Int, in bytes: some Collection<UInt8>) -> Int {
  1 + bytes.prefix(place).count { $0 == UInt8(ascii: "\n") }
}

/// Libyaml's parser over bytes that it keeps.
private final class YAMLEvents {
  private let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
  private let event = UnsafeMutablePointer<yaml_event_t>.allocate(capacity: 1)
  private let input: UnsafeMutableBufferPointer<UInt8>
  private let isReady: Bool

  init(_ bytes: [UInt8]) {
    // Where the encoding is said, libyaml takes a byte order mark for a character of the line.
    let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    input = .allocate(capacity: text.count)
    _ = input.initialize(from: text)
    isReady = yaml_parser_initialize(parser) == 1
    guard isReady else { return }
    // Else libyaml looks for UTF-16 as well, which nobody writes settings in.
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    yaml_parser_set_input_string(parser, input.baseAddress, input.count)
  }

  deinit {
    if isReady { yaml_parser_delete(parser) }
    parser.deallocate()
    event.deallocate()
    input.deallocate()
  }

  /// The next event; nil at the end.
  func next() throws(YAMLError) -> YAMLEvent? {
    guard isReady else { throw YAMLError(line: 1, text: "no memory for it") }
    guard yaml_parser_parse(parser, event) == 1 else { throw flaw() }
    defer { yaml_event_delete(event) }
    let line = Int(event.pointee.start_mark.line) + 1
    let data = event.pointee.data
    let kind: YAMLEvent.Kind
    switch event.pointee.type {
    case YAML_STREAM_START_EVENT, YAML_DOCUMENT_END_EVENT: kind = .nothing
    case YAML_DOCUMENT_START_EVENT: kind = .document
    case YAML_SCALAR_EVENT:
      let scalar = data.scalar
      let text = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
      let isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE && scalar.tag == nil
      kind = .scalar(String(decoding: text, as: UTF8.self), name(scalar.anchor), isPlain: isPlain)
    case YAML_ALIAS_EVENT: kind = .alias(name(data.alias.anchor) ?? "")
    case YAML_SEQUENCE_START_EVENT: kind = .listBegins(name(data.sequence_start.anchor))
    case YAML_MAPPING_START_EVENT: kind = .mappingBegins(name(data.mapping_start.anchor))
    case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT: kind = .ends
    default: return nil
    }
    return YAMLEvent(line: line, kind: kind)
  }

  private func name(_ text: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    text.map { String(cString: $0) }
  }

  /// What the parser stopped at. Its texts are constants, without anything from the document.
  private func flaw() -> YAMLError {
    let state = parser.pointee
    let problem = state.problem.map { String(cString: $0) } ?? "cannot be read"
    if state.error == YAML_MEMORY_ERROR { return YAMLError(line: 1, text: "no memory for it") }
    if state.error == YAML_READER_ERROR {
      return YAMLError(line: line(of: state.problem_offset, in: input), text: problem)
    }
    let context = state.context.map { " " + String(cString: $0) } ?? ""
    return YAMLError(line: Int(state.problem_mark.line) + 1, text: problem + context)
  }
}

/// What stands next in a document.
struct YAMLEvent {
  enum Kind {
    /// The stream's beginning, a document's end.
    case nothing
    case document
    /// A text, its anchor, whether it is written without quotes and tag.
    case scalar(String, String?, isPlain: Bool)
    case alias(String)
    case listBegins(String?)
    case mappingBegins(String?)
    /// Of the list or mapping that began last.
    case ends
  }
  let line: Int
  let kind: Kind
}
