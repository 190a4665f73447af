import LossdTensor
import Testing

@Suite struct ShownTextTests {
  @Test("a text of others is one line without control characters")
  func controls() {
    #expect(shownText("plain text, ä and 数") == "plain text, ä and 数")
    #expect(
      shownText("a\u{1b}[2Jb\nc\r\u{9b}d\u{202e}e\u{7f}\u{2028}f")
        == "a\\u{1b}[2Jb c \\u{9b}d\\u{202e}e\\u{7f} f")
    #expect(shownText("a\u{1b}\nb", keepsLines: true) == "a\\u{1b}\nb")
  }

  @Test("a text that is too long is cut between two code points", arguments: 0...4)
  func cut(bytesMax: Int) {
    let expected = bytesMax < 2 ? "..." : bytesMax < 4 ? "ä..." : "ää"
    #expect(shownText("ää", bytesMax: bytesMax) == expected)
  }

  @Test("an escape counts as the bytes that it is, and is not cut in two", arguments: 0...12)
  func cutEscapes(bytesMax: Int) {
    let expected = bytesMax < 6 ? "..." : bytesMax < 12 ? "\\u{1b}..." : "\\u{1b}\\u{1b}"
    #expect(shownText("\u{1b}\u{1b}", bytesMax: bytesMax) == expected)
  }

  @Test(
    "what can be seen stays, what cannot is escaped",
    arguments: [
      ("limits.streams", "limits.streams"), ("12 parsec", "12 parsec"), ("ü 🦊 \\ \"", "ü 🦊 \\ \""),
      ("", ""),
      ("a\nb\r\nc\td", "a b  c\\u{9}d"),
      ("\u{1B}[2J\u{7F}\u{0}", "\\u{1b}[2J\\u{7f}\\u{0}"),
      ("a\u{202E}b\u{200B}\u{FEFF}", "a\\u{202e}b\\u{200b}\\u{feff}"),
      ("\u{2028}\u{85}", "  "),
    ])
  func escapes(_ text: String, _ expected: String) {
    #expect(text.shownBriefly == expected)
    #expect(text.shownLine == expected)
  }

  @Test("a long text is cut, by what it is made of and not by what looks like one character")
  func cuts() {
    #expect(String(repeating: "x", count: 80).shownBriefly == String(repeating: "x", count: 80))
    #expect(
      String(repeating: "x", count: 81).shownBriefly == String(repeating: "x", count: 80)
        + "... (81 bytes)")
    for text in [
      "a" + String(repeating: "\u{301}", count: 500_000),
      String(repeating: "\u{1B}", count: 500_000),
    ] {
      #expect(text.shownBriefly.utf8.count < 700)
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
