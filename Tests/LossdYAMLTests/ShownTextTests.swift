import LossdYAML
import Testing

@Suite("Foreign texts in errors") struct ShownTextTests {
  @Test(
    "what can be seen stays, what cannot is escaped",
    arguments: [
      ("limits.streams", "limits.streams"), ("12 parsec", "12 parsec"), ("ü 🦊 \\ \"", "ü 🦊 \\ \""),
      ("", ""),
      ("a\nb\r\nc\td", "a\\u{a}b\\u{d}\\u{a}c\\u{9}d"),
      ("\u{1B}[2J\u{7F}\u{0}", "\\u{1b}[2J\\u{7f}\\u{0}"),
      ("a\u{202E}b\u{200B}\u{FEFF}", "a\\u{202e}b\\u{200b}\\u{feff}"),
      ("\u{2028}\u{85}", "\\u{2028}\\u{85}"),
    ])
  func escapes(_ text: String, _ expected: String) {
    #expect(text.shown == expected)
    #expect(text.shownLine == expected)
  }

  @Test("a long text is cut, by what it is made of and not by what looks like one character")
  func cuts() {
    #expect(String(repeating: "x", count: 80).shown == String(repeating: "x", count: 80))
    #expect(
      String(repeating: "x", count: 81).shown == String(repeating: "x", count: 80)
        + "... (81 bytes)")
    for text in [
      "a" + String(repeating: "\u{301}", count: 500_000),
      String(repeating: "\u{1B}", count: 500_000),
    ] {
      #expect(text.shown.utf8.count < 700)
      #expect(text.shownLine.utf8.count < 7000)
    }
  }

  @Test("a long line keeps its beginning and its end, where the reason stands")
  func keepsBothEnds() {
    let text = "lossd.yaml: " + String(repeating: "y", count: 500_000) + " is not a number"
    #expect(text.shownLine.hasPrefix("lossd.yaml: yyy"))
    #expect(text.shownLine.hasSuffix("yyy is not a number"))
    #expect(text.shownLine.count == 1003)
  }
}
