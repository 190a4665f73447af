import LossdYAML
import Testing

/// What most tests allow.
private let ample = YAMLLimits(aliasesMax: 8, depthMax: 8, nodesMax: 20_000)

private func read(_ text: String, _ limits: YAMLLimits = ample) throws(YAMLError) -> YAMLNode? {
  try readYAML(Array(text.utf8), limits: limits)
}

/// A value written in one line, quotes around every text.
private func flat(_ node: YAMLNode?) -> String {
  switch node?.content {
  case nil: "nothing"
  case .scalar(let text): "'\(text)'"
  case .list(let items): "[" + items.map { flat($0) }.joined(separator: ", ") + "]"
  case .mapping(let pairs):
    "{" + pairs.map { "'\($0.key.text)': \(flat($0.value))" }.joined(separator: ", ") + "}"
  }
}

/// What is refused, and how.
private func flaw(_ bytes: [UInt8], _ limits: YAMLLimits = ample) -> YAMLError? {
  do throws(YAMLError) {
    _ = try readYAML(bytes, limits: limits)
    return nil
  } catch { return error }
}

@Suite("YAML documents") struct YAMLReaderTests {
  @Test(
    "a document is texts, lists and mappings, and a text stays as it is written",
    arguments: [
      (
        "a: 1\nb: [x, 0x10, yes]\nc:\n  d: 1.50\n  e: ~\n",
        "{'a': '1', 'b': ['x', '0x10', 'yes'], 'c': {'d': '1.50', 'e': '~'}}"
      ),
      ("- a\n- 'b, c'\n- \"d\\te\"\n", "['a', 'b, c', 'd\te']"),
      ("a: |\n  one\n  two\nb: >-\n  one\n  two\n", "{'a': 'one\ntwo\n', 'b': 'one two'}"),
      ("\u{FEFF}a: ü 🦊\n", "{'a': 'ü 🦊'}"), ("a:\n", "{'a': ''}"),
      ("%YAML 1.1\n---\na: !!int 5\n...\n", "{'a': '5'}"), ("", "nothing"),
      ("# no more\n", "nothing"),
      ("a: &x [1, 2]\nb: *x\n", "{'a': ['1', '2'], 'b': ['1', '2']}"),
      ("&k a: 1\nb: {*k : 2}\n", "{'a': '1', 'b': {'a': '2'}}"),
      ("a: &x 1\nb: &x 2\nc: *x\n", "{'a': '1', 'b': '2', 'c': '2'}"),
    ])
  func reads(_ text: String, _ expected: String) throws {
    #expect(flat(try read(text)) == expected)
  }

  @Test("a value is nothing where nothing, a plain tilde or a plain null stands, and nowhere else")
  func knowsNothing() throws {
    for text in ["~", "null", "Null", "NULL", "---\n"] {
      #expect(try read(text)?.isNull == true, "\(text)")
    }
    for text in ["'~'", "\"null\"", "nil", "!!str null", "''", "[]", "0"] {
      #expect(try read(text)?.isNull == false, "\(text)")
    }
  }

  @Test("every value and every key says the line on which it begins, whatever ends lines")
  func knowsLines() throws {
    for end in ["\n", "\r", "\r\n", "\u{2028}"] {
      let text = ["# one", "a: 1", "", "b:", "  - x", "  - y", ""].joined(separator: end)
      guard case .mapping(let pairs) = try #require(try read(text)).content,
        case .list(let items) = pairs[1].value.content
      else {
        Issue.record("\(text.debugDescription) is read as another")
        continue
      }
      #expect(pairs.map(\.key.line) == [2, 4], "\(text.debugDescription)")
      #expect(items.map(\.line) == [5, 6], "\(text.debugDescription)")
    }
  }

  @Test(
    "a fault is told with its line",
    arguments: [
      ("a: 1\nb: [1\n", 3, "did not find expected ',' or ']' while parsing a flow sequence"),
      ("a: 1\n b: 2\n", 2, "mapping values are not allowed in this context"),
      ("a: 1\nb: 2\nA: 3\na: 4\n", 4, "a is there twice"),
      ("c: {x: 1, 'x': 2}\n", 1, "x is there twice"),
      ("a: 1\n---\nb: 2\n", 2, "a second document, expected one"),
      ("a: 1\n[b]: 2\n", 2, "a key that is a list or a mapping, expected a text"),
      ("a: &x {}\n*x : 2\n", 2, "a key that is a list or a mapping, expected a text"),
      ("a: &x 1\n*x : 2\n1: 3\n", 3, "1 is there twice"),
      ("a: 1\nb: *a\n", 2, "an alias without its anchor (&NAME) before it"),
      ("a: &x [*x]\n", 1, "an alias without its anchor (&NAME) before it"),
      ("a: 1\nb: \"x\\0y\"\n", 2, "a NUL in a text"),
      ("a: 1\nb: x\u{0}y\n", 2, "control characters are not allowed"),
      ("a: 1\nb: \u{1B}[2J\n", 2, "control characters are not allowed"),
      (
        "\ta: 1\n", 1,
        "found character that cannot start any token while scanning for the next token"
      ),
    ])
  func refuses(_ text: String, _ line: Int, _ reason: String) {
    let flaw = flaw(Array(text.utf8))
    #expect(flaw?.line == line, "\(text.debugDescription)")
    #expect(flaw?.text == reason, "\(text.debugDescription)")
  }

  @Test("what is not UTF-8 is refused, with its line")
  func refusesOtherBytes() {
    for bytes: [UInt8] in [
      [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2],
    ] {
      let flaw = flaw(Array("a: 1\nb: ".utf8) + bytes)
      #expect(flaw?.line == 2, "\(bytes): \(flaw.debugDescription)")
      #expect(
        ["UTF-8", "Unicode"].contains { flaw?.text.contains($0) == true },
        "\(bytes): \(flaw.debugDescription)")
    }
    // UTF-16, which libyaml would read.
    #expect(flaw([0xFF, 0xFE, 0x61, 0, 0x3A, 0, 0x31, 0])?.line == 1)
  }

  @Test("as many aliases, levels and values as the limits say are read, and no more")
  func keepsLimits() throws {
    let few = YAMLLimits(aliasesMax: 2, depthMax: 2, nodesMax: 6)
    #expect(flat(try read("[&a 1, *a, *a]", few)) == "['1', '1', '1']")
    #expect(
      flaw(Array("[&a 1, *a,\n*a, *a]".utf8), few)?.description
        == "line 2: over 2 aliases (*NAME), the most that there may be")
    #expect(flat(try read("[[1]]", few)) == "[['1']]")
    #expect(
      flaw(Array("[\n[[1]]]".utf8), few)?.description
        == "line 2: over 2 lists and mappings within one another, the most that may be")
    #expect(flat(try read("[1, 2, 3, 4, 5]", few)) == "['1', '2', '3', '4', '5']")
    #expect(
      flaw(Array("[1, 2, 3, 4, 5, 6]".utf8), few)?.description
        == "line 1: over 6 keys and values, the most that there may be")
  }

  @Test("a mebibyte of lines about tags is refused at once", .timeLimit(.minutes(1)))
  func refusesTagLines() {
    let lines = (0..<60_000).map { "%TAG !a\($0)! !\n" }
    let clock = ContinuousClock()
    var found: YAMLError?
    let time = clock.measure { found = flaw(Array(lines.joined().utf8)) }
    #expect(found?.description == "line 9: over 8 %TAG, the most that there may be")
    #expect(time < .seconds(5))
    #expect(flaw(Array((lines[..<8].joined() + "---\na: 1\n").utf8)) == nil)
  }

  @Test("an alias of many aliases costs what one value costs", .timeLimit(.minutes(1)))
  func sharesAliases() throws {
    let levels = 60
    let text = (0..<levels).map { level in
      "k\(level): &k\(level) " + (level == 0 ? "1" : "[*k\(level - 1), *k\(level - 1)]")
    }
    let limits = YAMLLimits(aliasesMax: 1000, depthMax: 8, nodesMax: 20_000)
    guard case .mapping(let pairs) = try read(text.joined(separator: "\n"), limits)?.content else {
      Issue.record("no mapping")
      return
    }
    #expect(pairs.count == levels)
  }

  @Test(
    "a mebibyte of anything is read or refused in seconds", .serialized,
    arguments: [
      "[", "{", "- ", "? ", "? [", "a: ", "a:\n ", "&a ", "*a ", "!a ", "!", "!<", "%",
      "%TAG ! !\n",
      "#", "\n", "\r", "\t", " ", "'", "\"", "\\", "\"\\u0041", "|", ">", "a: |\n", "a\n", "a ",
      "-",
      "---\n", "...\n", "--- a\n", "a: b\n", "[a, ", "{a: b, ", "\u{FEFF}", "ü", "\u{2028}",
      "a: [b]\n- ",
      "[\n", "{\n", "- - ", "? - ", "a: &b\n", "x: {y: [", ": ", ":\n", ",", "]", "}", "@", "`",
      "<<: ",
    ])
  func endsSoon(_ piece: String) {
    for prefix in ["", "a: [", "a: \"", "a: |\n  "] {
      let count = (1 << 20) / piece.utf8.count
      let bytes = Array((prefix + String(repeating: piece, count: count)).utf8)
      let clock = ContinuousClock()
      let time = clock.measure { _ = flaw(bytes) }
      #expect(time < .seconds(10), "\(prefix.debugDescription), \(piece.debugDescription): \(time)")
    }
  }
}
